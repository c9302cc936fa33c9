//! Ports of this machine that lead to a Pod: a small TCP proxy per port, alive as long as its guard.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::journal::PortRecord;

/// Connections of one port at a time.
const MAX_CONNECTIONS: usize = 1024;
/// How long the Pod may take to answer a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A port that nobody can be sent to yet: the address is taken before the Pod starts, so a conflict is told early.
#[derive(Debug)]
pub(crate) struct BoundPort {
    listener: TcpListener,
    record: PortRecord,
}

/// A port that leads to a Pod; dropped, it is closed with all its connections.
#[derive(Debug)]
pub(crate) struct PublishedPort {
    task: JoinHandle<()>,
}

impl BoundPort {
    /// Takes the address; port 0 becomes a free one.
    ///
    /// # Errors
    /// When it is taken or not ours.
    pub(crate) async fn bind(wanted: &PortRecord) -> std::io::Result<Self> {
        let listener = TcpListener::bind((wanted.host_address, wanted.host_port)).await?;
        let host_port = listener.local_addr()?.port();
        Ok(Self { listener, record: PortRecord { host_port, ..wanted.clone() } })
    }

    /// With the port that was given.
    pub(crate) fn record(&self) -> &PortRecord {
        &self.record
    }

    /// Lets connections through to the Pod from now on.
    pub(crate) fn publish(self, pod: IpAddr) -> PublishedPort {
        let target = SocketAddr::new(pod, self.record.pod_port);
        PublishedPort { task: tokio::spawn(accept(self.listener, target)) }
    }
}

impl Drop for PublishedPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((connection, _)) => drop(connections.spawn(carry(connection, target))),
                Err(error) => {
                    // Out of file descriptors: give connections the time to end.
                    tracing::warn!(%error, "failed to accept a connection to a published port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(mut connection: TcpStream, target: SocketAddr) {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target));
    let Ok(Ok(mut pod)) = connecting.await else { return };
    let _ = connection.set_nodelay(true);
    let _ = pod.set_nodelay(true);
    // Either side may break off at any time.
    let _ = tokio::io::copy_bidirectional(&mut connection, &mut pod).await;
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::{BoundPort, PortRecord};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn wanted(pod_port: u16) -> PortRecord {
        PortRecord { host_address: LOOPBACK, host_port: 0, pod_port }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_end_too() {
        let pod = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let bound = BoundPort::bind(&wanted(pod.local_addr().unwrap().port())).await.unwrap();
        let host_port = bound.record().host_port;
        let published = bound.publish(LOOPBACK);
        let mut client = TcpStream::connect((LOOPBACK, host_port)).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut server, _) = pod.accept().await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"ping");
        server.write_all(b"pong").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"pong");
        drop(published);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told() {
        let taken = BoundPort::bind(&wanted(80)).await.unwrap();
        let again = BoundPort::bind(taken.record()).await.unwrap_err();
        assert_eq!(again.kind(), std::io::ErrorKind::AddrInUse);
    }
}
