//! Work of the compute stream that was gathered and not given to the driver yet.
//!
//! Two lists are equal when they ask for the same work to the byte: kernels, sizes, addresses and arguments. For that the arguments
//! are copied by [`Parameter::store`], which leaves the padding of structs at zero, where the compiler would leave whatever it likes.

use super::super::driver::{Address, Argument, Driver, Failure, Function, Launch, Stream, Transfer};
use super::super::kernels::KernelId;
use super::super::launch::{Parameter, Parameters};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    Copy {
        transfer: Transfer,
        bytes: usize,
    },
    Fill {
        at: Address,
        value: u8,
        bytes: usize,
    },
    /// A kernel, and which of the list's arguments are its own.
    Launch {
        kernel: KernelId,
        function: Function,
        launch: Launch,
        arguments: Range<usize>,
    },
}

/// Work in the order in which it is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct List {
    works: Vec<Work>,
    arguments: Arguments,
}

// SAFETY: the host addresses in it are numbers here; whoever gives the work to a driver vouches for what they lead to.
unsafe impl Send for List {}

/// Copies of arguments, each at a multiple of 16 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Arguments {
    bytes: Vec<u128>,
    /// Where each begins, counted in `bytes`, and its size in bytes.
    places: Vec<(usize, usize)>,
}

impl Arguments {
    /// A copy of one more.
    pub fn push<T: Parameter>(&mut self, value: &T) {
        let (from, size) = (self.bytes.len(), size_of::<T>());
        self.bytes.resize(from + size.div_ceil(16), 0);
        value.store(&mut bytemuck::cast_slice_mut(&mut self.bytes[from..])[..size]);
        self.places.push((from, size));
    }

    fn of(&self, which: &Range<usize>) -> Vec<Argument> {
        let argument = |&(from, size): &(usize, usize)| Argument { at: self.bytes[from..].as_ptr().cast(), size };
        self.places[which.clone()].iter().map(argument).collect()
    }
}

impl List {
    pub fn len(&self) -> usize {
        self.works.len()
    }

    pub fn push(&mut self, work: Work) {
        self.works.push(work);
    }

    pub fn push_launch(&mut self, kernel: KernelId, function: Function, launch: Launch, parameters: &impl Parameters) {
        let from = self.arguments.places.len();
        parameters.store(&mut self.arguments);
        self.works.push(Work::Launch { kernel, function, launch, arguments: from..self.arguments.places.len() });
    }

    /// The same for equal lists in one run of a program.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        Hash::hash(self, &mut hasher);
        hasher.finish()
    }

    /// Gives all of it to the driver, until something is refused; what that was.
    ///
    /// # Safety
    /// As for [`Driver::copy`], [`Driver::fill`] and [`Driver::launch`] of each.
    pub unsafe fn issue(&self, driver: &dyn Driver, stream: Stream) -> Result<(), Refused> {
        for work in &self.works {
            // SAFETY: the caller's promise.
            let done = unsafe {
                match work {
                    Work::Copy { transfer, bytes } => driver.copy(stream, *transfer, *bytes),
                    Work::Fill { at, value, bytes } => driver.fill(stream, *at, *value, *bytes),
                    Work::Launch { function, launch, arguments, .. } => {
                        driver.launch(stream, *function, launch, &self.arguments.of(arguments))
                    }
                }
            };
            done.map_err(|failure| Refused { what: work.to_string(), failure })?;
        }
        Ok(())
    }
}

/// Work that the driver refused, and its word.
pub struct Refused {
    pub what: String,
    pub failure: Failure,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Copy { transfer: Transfer::Up(..), .. } => f.write_str("copying to the device"),
            Work::Copy { transfer: Transfer::Down(..), .. } => f.write_str("copying from the device"),
            Work::Copy { transfer: Transfer::Across(..), .. } => f.write_str("copying on the device"),
            Work::Fill { .. } => f.write_str("zeroing memory"),
            Work::Launch { kernel, launch, .. } => write!(f, "kernel {} ({launch})", kernel.kernel().name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::geometry;
    use super::*;

    geometry! {
        struct Padded {
            small: u8,
            large: u64,
            pair: [u16; 2],
        }
    }

    /// Lists differ by what kernels see and by nothing else: not by what lies between the fields of a struct.
    #[test]
    fn arguments_are_copied_without_their_padding() {
        let list = |large, dirt: u8| {
            let mut value = std::mem::MaybeUninit::<Padded>::uninit();
            // SAFETY: any bytes make these numbers, and the fields are written.
            let value = unsafe {
                let at = value.as_mut_ptr();
                at.write_bytes(dirt, 1);
                ((*at).small, (*at).large, (*at).pair) = (1, large, [2, 3]);
                value.assume_init_ref()
            };
            let mut arguments = Arguments::default();
            arguments.push(value);
            arguments.push(&7i64);
            arguments
        };
        assert_eq!(list(5, 0x00), list(5, 0xff));
        assert_ne!(list(5, 0x00), list(6, 0x00));
        let two = list(5, 0xaa);
        let places = two.of(&(0..2));
        assert_eq!(Padded::layout().size, size_of::<Padded>());
        assert_eq!([places[0].size, places[1].size], [size_of::<Padded>(), 8]);
        assert!(places.iter().all(|place| place.at.addr().is_multiple_of(16)));
        // SAFETY: the copies live, and are of these types.
        unsafe {
            assert_eq!((*places[0].at.cast::<Padded>()).pair, [2, 3]);
            assert_eq!(*places[1].at.cast::<i64>(), 7);
        }
    }
}
