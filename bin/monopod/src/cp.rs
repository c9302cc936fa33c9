//! `monopod cp`: files into a container and out of it, by the `tar` of the container, as kubectl does it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures_util::StreamExt;
use monopod_host_proto::MAX_CHUNK;
use monopod_host_proto::v1::exec_request::Kind;
use monopod_host_proto::v1::exec_response::Kind as Answer;
use monopod_host_proto::v1::{Closed, ExecRequest, ExecResponse, ExecStart, Exit as ProgramExit};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::Exit;
use crate::daemon::{Client, Folders};
use crate::failure::Failure;
use crate::pods::Named;

/// Pieces of an archive under way at once.
const PIECES: usize = 8;

/// Copy a file or a directory into a container or out of it. The container needs a `tar`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to copy.
    #[arg(value_name = "PATH|POD:PATH")]
    source: Place,
    /// Where to; a directory takes it in under its own name.
    #[arg(value_name = "PATH|POD:PATH")]
    destination: Place,
    /// Container, where the Pod has several.
    #[arg(short, long)]
    container: Option<String>,
    /// Namespace of the Pod, where its name does not say it.
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    folders: Folders,
}

/// A path here or in a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    Pod(Named, String),
}

impl FromStr for Place {
    type Err = crate::pods::NotAName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            // A path of this machine that holds a colon is written with its folder.
            Some((pod, path)) if !pod.starts_with(['.', '/']) => Ok(Self::Pod(pod.parse()?, path.to_owned())),
            _ => Ok(Self::Here(text.into())),
        }
    }
}

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut client = arguments.folders.connect().await?;
    let start = |pod: &Named, args: Vec<String>, stdin| ExecStart {
        pod: Some(pod.to_proto(arguments.namespace.as_deref())),
        container: arguments.container.clone().unwrap_or_default(),
        args,
        tty: false,
        stdin,
        size: None,
    };
    match (&arguments.source, &arguments.destination) {
        (Place::Here(source), Place::Pod(pod, path)) => {
            let is_folder = path.ends_with('/') || is_folder(&mut client, start(pod, test_folder(path), false)).await?;
            let (folder, name) = split(source, path, is_folder)?;
            let args = ["tar", "-xmf", "-", "-C", &folder].map(str::to_owned).to_vec();
            upload(&mut client, start(pod, args, true), source.clone(), name).await
        }
        (Place::Pod(pod, path), Place::Here(destination)) => {
            let path = path.trim_end_matches('/');
            let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
            let folder = if folder.is_empty() { "/" } else { folder };
            let args = ["tar", "-cf", "-", "-C", folder, name].map(str::to_owned).to_vec();
            download(&mut client, start(pod, args, false), name.to_owned(), destination.clone()).await
        }
        (Place::Here(_), Place::Here(_)) => {
            Err(Failure::Input("one of the paths must be in a Pod: POD:PATH".to_owned()))
        }
        (Place::Pod(..), Place::Pod(..)) => Err(Failure::Input("one of the paths must be on this machine".to_owned())),
    }
}

fn test_folder(path: &str) -> Vec<String> {
    ["test", "-d", path].map(str::to_owned).to_vec()
}

/// The folder in the container to unpack in, and the name that the file gets there.
fn split(source: &Path, path: &str, is_folder: bool) -> Result<(String, String), Failure> {
    let own = || {
        let name = source.file_name().and_then(|name| name.to_str());
        name.map(str::to_owned)
            .ok_or_else(|| Failure::Input(format!("{} has no name to copy it under", source.display())))
    };
    if is_folder {
        return Ok((path.to_owned(), own()?));
    }
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    let folder = if folder.is_empty() { "/" } else { folder };
    Ok((folder.to_owned(), name.to_owned()))
}

async fn is_folder(client: &mut Client, start: ExecStart) -> Result<bool, Failure> {
    let mut answers = client.exec(one_message(start)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if let Some(Answer::Exit(exit)) = answer.kind {
            return Ok(exit.code == 0);
        }
    }
    Err(Failure::Answer("a session without an end"))
}

/// A request that says nothing more, and stays open for the answer.
fn one_message(start: ExecStart) -> impl futures_util::Stream<Item = ExecRequest> + Send + 'static {
    let first = ExecRequest { kind: Some(Kind::Start(start)) };
    futures_util::stream::iter([first]).chain(futures_util::stream::pending())
}

async fn upload(client: &mut Client, start: ExecStart, source: PathBuf, name: String) -> Result<Exit, Failure> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let shown = source.display().to_string();
    let packed = tokio::task::spawn_blocking(move || pack(&source, &name, ChannelWriter(sender)));
    let pieces = ReceiverStream::new(receiver).map(Kind::Stdin);
    let end = futures_util::stream::iter([Kind::StdinEnd(Closed {})]).chain(futures_util::stream::pending());
    let requests = futures_util::stream::iter([Kind::Start(start)]).chain(pieces).chain(end);
    let answers = client.exec(requests.map(|kind| ExecRequest { kind: Some(kind) })).await?.into_inner();
    let exit = tar_exit(answers, None).await?;
    // With the program gone, the archive has lost its reader; then the program's own words count.
    let packed = packed.await.map_err(|_| Failure::Answer("the archive was given up"))?;
    check(&exit)?;
    packed.map_err(|source| Failure::Io { action: format!("failed to read {shown}"), source })?;
    Ok(Exit::Success)
}

async fn download(client: &mut Client, start: ExecStart, name: String, destination: PathBuf) -> Result<Exit, Failure> {
    let answers = client.exec(one_message(start)).await?.into_inner();
    let (sender, receiver) = mpsc::channel(PIECES);
    let shown = destination.display().to_string();
    let unpacked = tokio::task::spawn_blocking(move || {
        unpack(ChannelReader { receiver, piece: Vec::new(), read: 0 }, &name, &destination)
    });
    let exit = tar_exit(answers, Some(sender)).await?;
    let unpacked = unpacked.await.map_err(|_| Failure::Answer("the archive was given up"))?;
    check(&exit)?;
    unpacked.map_err(|source| Failure::Io { action: format!("failed to write {shown}"), source })?;
    Ok(Exit::Success)
}

/// Follows the program to its end; its output goes to `output`, its complaints to the user.
async fn tar_exit(
    mut answers: Streaming<ExecResponse>,
    output: Option<Sender<Vec<u8>>>,
) -> Result<ProgramExit, Failure> {
    while let Some(answer) = answers.message().await? {
        match (answer.kind, &output) {
            (Some(Answer::Stdout(data)), Some(output)) => drop(output.send(data).await),
            (Some(Answer::Stderr(data)), _) => {
                crate::terminal::progress(String::from_utf8_lossy(&data).trim_end());
            }
            (Some(Answer::Exit(exit)), _) => return Ok(exit),
            (Some(Answer::Stdout(_) | Answer::Started(_)) | None, _) => {}
        }
    }
    Err(Failure::Answer("a session without an end"))
}

fn check(exit: &ProgramExit) -> Result<(), Failure> {
    if !exit.error.is_empty() {
        return Err(Failure::Input(format!("{}; the container needs a tar for this", exit.error)));
    }
    if exit.code != 0 {
        return Err(Failure::Input(format!("tar in the container ended with exit code {}", exit.code)));
    }
    Ok(())
}

fn pack(source: &Path, name: &str, writer: ChannelWriter) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(MAX_CHUNK / 2, writer));
    archive.follow_symlinks(false);
    if source.is_dir() {
        archive.append_dir_all(name, source)?;
    } else {
        archive.append_path_with_name(source, name)?;
    }
    archive.into_inner()?.flush()
}

/// Unpacks beside the destination and moves it there once it is whole. The archive comes from a Pod, so nothing of it may
/// land outside.
fn unpack(reader: ChannelReader, name: &str, destination: &Path) -> io::Result<()> {
    let target = if destination.is_dir() { destination.join(name) } else { destination.to_path_buf() };
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = tempfile::Builder::new().prefix(".monopod-cp-").tempdir_in(parent)?;
    // `unpack_in` is what keeps every entry inside the folder.
    for entry in tar::Archive::new(reader).entries()? {
        entry?.unpack_in(folder.path())?;
    }
    std::fs::rename(folder.path().join(name), target)
}

/// Writes into a channel, as long as somebody reads.
struct ChannelWriter(Sender<Vec<u8>>);

impl Write for ChannelWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = &data[..data.len().min(MAX_CHUNK)];
        self.0.blocking_send(piece.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from a channel to its end.
struct ChannelReader {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            let Some(piece) = self.receiver.blocking_recv() else { return Ok(0) };
            (self.piece, self.read) = (piece, 0);
        }
        let count = buffer.len().min(self.piece.len() - self.read);
        buffer[..count].copy_from_slice(&self.piece[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::{Path, Place, split};

    #[test]
    fn a_path_is_here_unless_it_names_a_pod() {
        for here in ["file", "./a:b", "/a:b"] {
            assert_eq!(here.parse::<Place>().unwrap(), Place::Here(here.into()));
        }
        let place = "shop/web:/etc/hosts".parse::<Place>().unwrap();
        assert_eq!(place, Place::Pod("shop/web".parse().unwrap(), "/etc/hosts".to_owned()));
    }

    #[test]
    fn a_copy_gets_the_name_asked_for_or_keeps_its_own_in_a_folder() {
        let rows =
            [("/tmp", true, "/tmp", "data.txt"), ("/tmp/new", false, "/tmp", "new"), ("/new", false, "/", "new")];
        for (path, is_folder, folder, name) in rows {
            let found = split(Path::new("here/data.txt"), path, is_folder).unwrap();
            assert_eq!(found, (folder.to_owned(), name.to_owned()), "{path}");
        }
    }
}
