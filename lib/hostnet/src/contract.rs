//! What every [`HostNet`] must do. Each check takes a network without Pods and leaves it so.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use monopod_types::PodUid;

use crate::HostNet;

/// Pods come and go: addresses are distinct, the same Pod is connected once, and what was given back comes back last.
///
/// # Panics
/// When the network does otherwise.
pub async fn addresses_are_given_once_and_reused_last(net: &dyn HostNet, total: usize) {
    let pods: Vec<PodUid> = (0..total).map(|number| PodUid::new(format!("contract-{number}"))).collect();
    let mut addresses = BTreeSet::new();
    let mut attachments = Vec::new();
    for pod in &pods {
        let attachment = net.attach(pod, None).await.expect("there are addresses left");
        assert!(addresses.insert(attachment.lease.address()), "{:?} was given twice", attachment.lease);
        attachments.push(attachment);
    }
    let again = net.attach(&pods[0], None).await.expect_err("it is connected already");
    assert_eq!(again.reason(), "NetworkAlreadyAttached");
    let other = net.attach(&PodUid::new("contract-other"), None).await.expect_err("there is no address left");
    assert_eq!(other.reason(), "AddressesExhausted");

    let (first, last) = (attachments[0].lease.address(), attachments[total - 1].lease.address());
    for at in [total - 1, 0] {
        net.detach(&pods[at]).await.expect("it can be taken back");
    }
    attachments.truncate(total - 1);
    attachments.remove(0);
    let reused = net.attach(&pods[0], None).await.expect("two addresses are free");
    assert_eq!(reused.lease.address(), last, "{first:?} was given back later");
    attachments.push(reused);
    for pod in &pods {
        net.detach(pod).await.expect("it can be taken back");
    }
}

/// A Pod gets the address that was decided for it, once.
///
/// # Panics
/// When the network does otherwise.
pub async fn a_wanted_address_is_given(net: &dyn HostNet) {
    let (one, other) = (PodUid::new("contract-any"), PodUid::new("contract-wanted"));
    let attachment = net.attach(&one, None).await.expect("there are addresses left");
    let Some(IpAddr::V4(address)) = attachment.lease.address() else { panic!("{:?}", attachment.lease) };
    let taken = net.attach(&other, Some(address)).await.expect_err("another has it");
    assert_eq!(taken.reason(), "AddressTaken");
    drop(attachment);
    net.detach(&one).await.expect("it can be taken back");
    let wanted = net.attach(&other, Some(address)).await.expect("it is free again");
    assert_eq!(wanted.lease.address(), Some(address.into()));
    drop(wanted);
    net.detach(&other).await.expect("it can be taken back");
    let foreign = net.attach(&other, Some(Ipv4Addr::BROADCAST)).await.expect_err("it is nobody's");
    assert_eq!(foreign.reason(), "ForeignAddress");
}

/// Taking back is the same whether or not there is something to take.
///
/// # Panics
/// When the network does otherwise.
pub async fn detaching_is_idempotent(net: &dyn HostNet) {
    let pod = PodUid::new("contract-idempotent");
    net.detach(&pod).await.expect("nothing to take back is no error");
    let attachment = net.attach(&pod, None).await.expect("there are addresses left");
    net.stats(&pod).await.expect("it is connected");
    drop(attachment);
    net.detach(&pod).await.expect("a closed tap is no error");
    net.detach(&pod).await.expect("nothing to take back is no error");
    assert_eq!(net.stats(&pod).await.expect_err("it is gone").reason(), "NetworkNotAttached");
}

/// Live Pods keep what they have, whoever asks again.
///
/// # Panics
/// When the network does otherwise.
pub async fn adopting_keeps_live_pods(net: &dyn HostNet) {
    let pod = PodUid::new("contract-adopted");
    let attachment = net.attach(&pod, None).await.expect("there are addresses left");
    let live = [pod.clone(), PodUid::new("contract-unknown")];
    let adopted = net.adopt(&live).await.expect("it can be adopted");
    assert_eq!(adopted, [(pod.clone(), attachment.lease.clone())]);
    net.detach(&pod).await.expect("it can be taken back");
}
