//! Says whether a guest has come up: it greets its agent.

use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use monopod_agent_client::{AgentClient, Deadlines, FnTransport};
use monopod_vmm::{ByteStream, VmError};
use monopod_vmm_qemu::Ready;

/// Longer than any boot may take.
const BOOT_LIMIT: Duration = Duration::from_secs(600);

type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// The agent's greeting.
#[derive(Debug)]
pub(crate) struct Greeting;

#[async_trait]
impl Ready for Greeting {
    async fn ready(&self, stream: Box<dyn ByteStream>) -> Result<(), VmError> {
        // There is one stream, so there is one connection.
        let stream = Mutex::new(Some(stream));
        let transport = FnTransport::new(move || -> Opening {
            let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            Box::pin(ready(taken.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))))
        });
        // How long a boot may take is for who asks to say; until then the guest's end of the channel is silent.
        let deadlines = Deadlines { connect: BOOT_LIMIT, ..Deadlines::default() };
        let agent = AgentClient::new(transport, deadlines);
        let answered = agent.hello().await;
        agent.disconnect().await;
        answered.map(drop).map_err(|error| VmError::NotReady { what: error.to_string() })
    }
}
