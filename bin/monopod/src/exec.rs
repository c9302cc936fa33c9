//! `monopod exec` and `monopod attach`: a terminal session with a program in a Pod.

use futures_util::StreamExt;
use monopod_host_proto::v1::attach_request::Kind as AttachKind;
use monopod_host_proto::v1::attach_response::Kind as AttachAnswer;
use monopod_host_proto::v1::exec_request::Kind as ExecKind;
use monopod_host_proto::v1::exec_response::Kind as ExecAnswer;
use monopod_host_proto::v1::{AttachRequest, AttachStart, Closed, ExecRequest, ExecStart};

use crate::Exit;
use crate::daemon::Folders;
use crate::failure::Failure;
use crate::pods::PodArgument;
use crate::session::{self, Incoming, Outgoing, Terminal};

/// Run a program in a container.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArguments {
    #[command(flatten)]
    pod: PodArgument,
    /// Container, where the Pod has several.
    #[arg(short, long)]
    container: Option<String>,
    /// Hand standard input to the program.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the program a terminal.
    #[arg(short, long)]
    tty: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    folders: Folders,
}

/// Join the input and output of a container's first program.
#[derive(Debug, clap::Args)]
pub(crate) struct AttachArguments {
    #[command(flatten)]
    pod: PodArgument,
    /// Container, where the Pod has several.
    #[arg(short, long)]
    container: Option<String>,
    /// Hand standard input to the program.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Treat standard input as a terminal, for a container that has one.
    #[arg(short, long)]
    tty: bool,
    #[command(flatten)]
    folders: Folders,
}

/// Runs `exec`; exits with the program's code.
pub(crate) async fn exec(arguments: ExecArguments) -> Result<Exit, Failure> {
    let terminal = Terminal { stdin: arguments.stdin, tty: arguments.tty };
    let start = ExecStart {
        pod: Some(arguments.pod.to_proto()),
        container: arguments.container.unwrap_or_default(),
        args: arguments.command,
        tty: arguments.tty,
        stdin: arguments.stdin,
        size: if arguments.tty { session::size() } else { None },
    };
    let requests =
        futures_util::stream::iter([ExecKind::Start(start)]).chain(session::outgoing(terminal).map(|message| {
            match message {
                Outgoing::Stdin(data) => ExecKind::Stdin(data),
                Outgoing::StdinEnd => ExecKind::StdinEnd(Closed {}),
                Outgoing::Resize(size) => ExecKind::Resize(size),
            }
        }));
    let mut client = arguments.folders.connect().await?;
    let requests = requests.map(|kind| ExecRequest { kind: Some(kind) });
    let answers = client.exec(requests).await?.into_inner();
    let incoming = answers.map(move |answer| {
        Ok(match answer?.kind {
            Some(ExecAnswer::Stdout(data)) => Incoming::Stdout(data),
            Some(ExecAnswer::Stderr(data)) => Incoming::Stderr(data),
            Some(ExecAnswer::Exit(exit)) => Incoming::Exit { code: exit.code, error: exit.error },
            Some(ExecAnswer::Started(Closed {})) => Incoming::Started { tty: terminal.tty },
            None => Incoming::Unknown,
        })
    });
    session::run(terminal, incoming).await
}

/// Runs `attach`; exits with the code of the container.
pub(crate) async fn attach(arguments: AttachArguments) -> Result<Exit, Failure> {
    let terminal = Terminal { stdin: arguments.stdin, tty: arguments.tty };
    let start = AttachStart {
        pod: Some(arguments.pod.to_proto()),
        container: arguments.container.unwrap_or_default(),
        stdin: arguments.stdin,
    };
    let first = [AttachKind::Start(start)].into_iter().chain(session::size().map(AttachKind::Resize));
    let requests =
        futures_util::stream::iter(first.collect::<Vec<_>>()).chain(session::outgoing(terminal).map(|message| {
            match message {
                Outgoing::Stdin(data) => AttachKind::Stdin(data),
                Outgoing::StdinEnd => AttachKind::StdinEnd(Closed {}),
                Outgoing::Resize(size) => AttachKind::Resize(size),
            }
        }));
    let mut client = arguments.folders.connect().await?;
    let requests = requests.map(|kind| AttachRequest { kind: Some(kind) });
    let answers = client.attach(requests).await?.into_inner();
    let incoming = answers.map(|answer| {
        Ok(match answer?.kind {
            Some(AttachAnswer::Stdout(data)) => Incoming::Stdout(data),
            Some(AttachAnswer::Stderr(data)) => Incoming::Stderr(data),
            Some(AttachAnswer::Exit(exit)) => Incoming::Exit { code: exit.code, error: exit.error },
            Some(AttachAnswer::Started(started)) => Incoming::Started { tty: started.tty },
            None => Incoming::Unknown,
        })
    });
    session::run(terminal, incoming).await
}
