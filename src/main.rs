//! The `onecycle` program; everything is in [`onecycle::cli`].

fn main() -> std::process::ExitCode {
    onecycle::cli::main()
}
