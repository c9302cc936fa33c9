//! Users and groups as images write them.

use monopod_agent_proto::v1;

use super::{Accounts, Ids, UserError, resolve};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      # a comment\n\
                      app:x:1000:1001::/srv/app:/bin/false\n\
                      broken:x:\n\
                      www:x:33:33:www:/var/www:/bin/false\n\
                      nohome:x:44:44\n";
const GROUP: &str = "root:x:0:root\nwheel:x:10:root,app\nadm:x:4:app\nwww:x:33:\nbroken\nlate:x:50:app,";

fn user(image_user: &str) -> v1::User {
    v1::User { image_user: image_user.to_owned(), ..v1::User::default() }
}

fn found(wanted: &v1::User) -> Result<Ids, UserError> {
    resolve(wanted, &Accounts::parse(PASSWD, GROUP))
}

fn ids(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<Ids, UserError> {
    Ok(Ids { uid, gid, groups: groups.to_vec(), home: home.to_owned() })
}

#[test]
fn every_form_that_an_image_may_write_is_understood() {
    assert_eq!(found(&user("")), ids(0, 0, &[0, 10], "/root"));
    assert_eq!(found(&user("app")), ids(1000, 1001, &[1001, 10, 4, 50], "/srv/app"));
    assert_eq!(found(&user("1000")), ids(1000, 1001, &[1001, 10, 4, 50], "/srv/app"));
    assert_eq!(found(&user("app:www")), ids(1000, 33, &[33, 10, 4, 50], "/srv/app"));
    assert_eq!(found(&user("1000:7")), ids(1000, 7, &[7, 10, 4, 50], "/srv/app"));
    assert_eq!(found(&user("app:7")), ids(1000, 7, &[7, 10, 4, 50], "/srv/app"));
}

#[test]
fn a_number_needs_no_entry_in_the_image() {
    assert_eq!(found(&user("4711")), ids(4711, 0, &[0], "/"));
    assert_eq!(resolve(&user("4711:12"), &Accounts::default()), ids(4711, 12, &[12], "/"));
    assert_eq!(found(&user("nohome")), ids(44, 44, &[44], "/"));
}

#[test]
fn a_name_without_an_entry_is_refused_in_the_words_of_containerd() {
    assert_eq!(found(&user("nobody")).unwrap_err().to_string(), "no users found");
    assert_eq!(found(&user("nobody:0")), Err(UserError::NoUsers));
    assert_eq!(found(&user("app:none")).unwrap_err().to_string(), "no groups found");
    assert_eq!(found(&user("a:b:c")).unwrap_err().to_string(), "invalid USER value a:b:c");
    assert_eq!(found(&user("-1")), Err(UserError::NoUsers), "a negative number is taken for a name");
}

#[test]
fn the_pod_overrides_user_and_group() {
    let wanted = v1::User { uid: Some(1000), ..user("www") };
    assert_eq!(found(&wanted), ids(1000, 1001, &[1001, 10, 4, 50], "/srv/app"));
    let wanted = v1::User { uid: Some(2000), gid: Some(3000), ..user("app") };
    assert_eq!(found(&wanted), ids(2000, 3000, &[3000], "/"));
    let wanted = v1::User { gid: Some(9), ..user("app") };
    assert_eq!(found(&wanted), ids(1000, 9, &[9, 10, 4, 50], "/srv/app"));
}

#[test]
fn supplemental_groups_come_last_and_once() {
    let wanted = v1::User { supplemental_groups: vec![10, 77, 1001], ..user("app") };
    assert_eq!(found(&wanted), ids(1000, 1001, &[1001, 10, 4, 50, 77], "/srv/app"));
}

#[test]
fn strict_groups_take_none_of_the_image() {
    let wanted = v1::User { supplemental_groups: vec![77], strict_groups: true, ..user("app") };
    assert_eq!(found(&wanted), ids(1000, 1001, &[1001, 77], "/srv/app"));
}
