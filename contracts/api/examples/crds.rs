//! Prints the files of deploy/crds; `cargo xtask codegen` writes them.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

fn main() {
    for file in monopod_api::crd_yaml() {
        print!("=== deploy/crds/{}\n{}", file.name, file.text);
    }
}
