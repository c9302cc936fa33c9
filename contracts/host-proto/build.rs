//! Generates the messages and the service from host.proto, with a compiler written in Rust: no protoc to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/host.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    println!("cargo::rerun-if-changed=proto/host.proto");
    Ok(())
}
