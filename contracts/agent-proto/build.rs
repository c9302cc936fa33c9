//! Generates the messages and the service from agent.proto, with a compiler written in Rust: no protoc to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/agent.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    println!("cargo::rerun-if-changed=proto/agent.proto");
    Ok(())
}
