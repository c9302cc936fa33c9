//! Our own objects: refused with every problem at once, so that a person corrects them in one go.

use kube::core::admission::{AdmissionRequest, AdmissionResponse, Operation};
use kube::{Resource, ResourceExt};
use monopod_api::{FieldProblem, Subnet, overlaps};

/// Lets an object pass, or says all that is wrong with it. One that is being deleted passes, or it could never lose its
/// finalizer.
pub(super) fn review<T: Resource>(
    request: &AdmissionRequest<T>,
    problems: impl Fn(&T) -> Vec<FieldProblem>,
) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let object = match (&request.operation, &request.object) {
        (Operation::Create | Operation::Update, Some(object)) => object,
        (Operation::Create | Operation::Update | Operation::Delete | Operation::Connect, _) => return response,
    };
    if object.meta().deletion_timestamp.is_some() {
        return response;
    }
    let problems = problems(object);
    if problems.is_empty() {
        return response;
    }
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    response.deny(problems.join("; "))
}

/// What is wrong with a Subnet, alone and beside those that the cluster has.
pub(super) fn subnet(subnet: &Subnet, others: &[Subnet]) -> Vec<FieldProblem> {
    let mut problems = subnet.validate();
    let name = subnet.name_any();
    let others = others.iter().filter(|other| other.name_any() != name);
    for other in others {
        for overlap in overlaps([subnet, other]) {
            let (cidr, other_cidr) = if overlap.first.as_str() == name {
                (overlap.first_cidr, overlap.second_cidr)
            } else {
                (overlap.second_cidr, overlap.first_cidr)
            };
            let message = format!("{cidr} overlaps {other_cidr} of subnet {}; choose another range.", other.name_any());
            problems.push(FieldProblem { field: "spec.cidr".to_owned(), message });
        }
    }
    problems
}
