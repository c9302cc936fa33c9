//! A client of Kubernetes that finds everything by what is in the Pod that it runs in: says as whom it is there.
//!
//! A test copies it into a Pod; it is no part of what is released.
#![expect(clippy::print_stdout, reason = "a program of the command line")]

use std::error::Error;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client, Config};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::incluster()?;
    let namespace = config.default_namespace.clone();
    let reviews = Api::<SelfSubjectReview>::all(Client::try_from(config)?);
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info?.username).unwrap_or_default();
    println!("{user} in {namespace}");
    Ok(())
}
