//! Recorded values for the unit tests of this layer; the tests in `tests/` have `tests/common`.

use std::io::Write;
use std::path::PathBuf;

/// The file `name` of the training recordings, or nothing (and a word about it) in a package without them.
pub fn recorded(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("ONECYCLE_FIXTURES").map(PathBuf::from);
    let places = named.into_iter().chain(["../shared/fixtures".into(), "tests/fixtures".into()]);
    let path = places.map(|d: PathBuf| d.join("training").join(name)).find(|p| p.exists());
    if path.is_none() {
        // What `println!` prints, the test runner keeps.
        let why = "set ONECYCLE_FIXTURES to the directory of recorded values";
        let _ = writeln!(std::io::stderr(), "skipped: {name} is not there; {why}");
    }
    path
}
