//! Reads a log on and on, as it is written.

use tokio::sync::{mpsc, watch};

use super::reader::Reader;

/// What a writer tells those who follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Time of the last entry that is in the files.
    pub(crate) written: u64,
    /// Nothing will be written any more.
    pub(crate) ended: bool,
}

/// Sends everything from the reader's place on; with `progress`, also what is written later, until the log has ended.
///
/// # Errors
/// When a file cannot be read. That nobody listens any more is not an error.
pub(crate) async fn follow(
    mut reader: Reader,
    mut progress: Option<watch::Receiver<Progress>>,
    to: mpsc::Sender<Vec<u8>>,
) -> std::io::Result<()> {
    loop {
        // Read the flag first: what was written before it was set is read below.
        let ended = progress.as_mut().is_none_or(|progress| progress.borrow_and_update().ended);
        loop {
            let chunk;
            (reader, chunk) = read(reader).await?;
            let Some(chunk) = chunk else { break };
            if to.send(chunk).await.is_err() {
                return Ok(());
            }
        }
        if ended || reader.is_exhausted() {
            return Ok(());
        }
        let Some(progress) = &mut progress else { return Ok(()) };
        tokio::select! {
            changed = progress.changed() => if changed.is_err() {
                return Ok(());
            },
            () = to.closed() => return Ok(()),
        }
    }
}

async fn read(mut reader: Reader) -> std::io::Result<(Reader, Option<Vec<u8>>)> {
    let reading = tokio::task::spawn_blocking(move || reader.next_chunk().map(|chunk| (reader, chunk)));
    reading.await.map_err(std::io::Error::other)?
}
