//! Requests become plans, and what cannot be one is refused.

use monopod_agent_proto::v1;

use super::{check, plan};
use crate::containers::users::Ids;

fn request() -> v1::CreateContainerRequest {
    v1::CreateContainerRequest {
        id: "web-1".to_owned(),
        args: vec!["sleep".to_owned(), "1".to_owned()],
        ..v1::CreateContainerRequest::default()
    }
}

fn refusal(change: impl FnOnce(&mut v1::CreateContainerRequest)) -> String {
    let mut request = request();
    change(&mut request);
    check(&request).unwrap_err().to_string()
}

#[test]
fn a_request_that_makes_no_sense_is_refused_before_anything_is_done() {
    check(&request()).unwrap();
    assert_eq!(refusal(|request| request.id = "a/b".to_owned()), "invalid container id \"a/b\"");
    assert_eq!(refusal(|request| request.id = "..".to_owned()), "invalid container id \"..\"");
    assert_eq!(refusal(|request| request.id = "x".repeat(254)).len(), "invalid container id \"\"".len() + 254);
    assert_eq!(refusal(|request| request.args.clear()), "no command specified");
    assert_eq!(
        refusal(|request| request.working_directory = "app".to_owned()),
        "working directory \"app\" is not absolute"
    );
    let mount = |destination: &str| v1::Mount { destination: destination.to_owned(), ..v1::Mount::default() };
    assert_eq!(
        refusal(|request| request.mounts = vec![mount("/a/../b")]),
        "mount path \"/a/../b\" is not absolute and plain"
    );
    let limit = v1::Rlimit { name: "RLIMIT_FUN".to_owned(), soft: 1, hard: 1 };
    assert_eq!(refusal(|request| request.rlimits = vec![limit]), "invalid rlimit type RLIMIT_FUN");
}

#[test]
fn a_process_is_planned_from_what_the_request_grants_and_nothing_else() {
    let ids = Ids { uid: 7, gid: 8, groups: vec![8, 9], home: "/home/seven".to_owned() };
    let mut asked = request();
    asked.security = Some(v1::Security {
        capabilities: vec!["CAP_CHOWN".to_owned()],
        no_new_privileges: true,
        seccomp: v1::Seccomp::RuntimeDefault.into(),
        ..v1::Security::default()
    });
    let planned = plan(&asked, ids.clone(), "web-0");
    assert_eq!((planned.uid, planned.gid, planned.groups), (7, 8, vec![8, 9]));
    assert_eq!(planned.capabilities, ["CAP_CHOWN"]);
    assert!(planned.no_new_privileges && planned.seccomp);
    assert_eq!(planned.working_directory.to_str(), Some("/"));
    assert!(planned.environment.contains(&"HOSTNAME=web-0".to_owned()));
    assert!(planned.environment.contains(&"HOME=/home/seven".to_owned()));

    let bare = plan(&request(), ids, "web-0");
    assert!(bare.capabilities.is_empty() && !bare.seccomp && !bare.no_new_privileges);
}
