//! Who a container runs as: the user that the image or the Pod names, looked up in the image's own files.
//!
//! The rules and texts are containerd's. A number needs no entry in the image; a name does. The groups are the primary
//! one, then those that list the user in the image's /etc/group, then those that the Pod adds.

use monopod_agent_proto::v1;

/// Largest id that is taken for a number; anything else is a name.
const MAX_ID: i64 = i32::MAX as i64;

/// Ids of a container's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, the primary one first.
    pub(crate) groups: Vec<u32>,
    /// Home directory of the user in the image, `/` where it has none.
    pub(crate) home: String,
}

/// The image's /etc/passwd and /etc/group; empty where it has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    users: Vec<Account>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Clone, Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Why nobody is found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name that is not in /etc/passwd.
    #[error("no users found")]
    NoUsers,
    /// A name that is not in /etc/group.
    #[error("no groups found")]
    NoGroups,
    /// More than one colon.
    #[error("invalid USER value {value}")]
    Invalid {
        /// As given.
        value: String,
    },
}

impl UserError {
    /// For events, conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoUsers => "NoUsersFound",
            Self::NoGroups => "NoGroupsFound",
            Self::Invalid { .. } => "InvalidUser",
        }
    }
}

impl Accounts {
    /// Reads both files. Lines that make no sense are passed over, as every reader of these files does.
    pub(crate) fn parse(passwd: &str, group: &str) -> Self {
        Self {
            users: passwd.lines().filter_map(parse_account).collect(),
            groups: group.lines().filter_map(parse_group).collect(),
        }
    }

    fn user_named(&self, name: &str) -> Option<&Account> {
        self.users.iter().find(|user| user.name == name)
    }

    fn user_with(&self, uid: u32) -> Option<&Account> {
        self.users.iter().find(|user| user.uid == uid)
    }

    fn groups_of(&self, user: &str) -> impl Iterator<Item = u32> {
        let lists = move |group: &&Group| group.members.iter().any(|member| member == user);
        self.groups.iter().filter(lists).map(|group| group.gid)
    }
}

fn parse_account(line: &str) -> Option<Account> {
    let mut fields = line.trim().split(':');
    let name = fields.next()?.to_owned();
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    let home = fields.nth(1).unwrap_or_default().to_owned();
    Some(Account { name, uid, gid, home })
}

fn parse_group(line: &str) -> Option<Group> {
    let mut fields = line.trim().split(':');
    let name = fields.next()?.to_owned();
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields.next().unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(str::to_owned);
    Some(Group { name, gid, members: members.collect() })
}

/// Finds out who a container runs as.
///
/// # Errors
/// When a name is not in the image, or the text is not one of the known forms.
pub(crate) fn resolve(wanted: &v1::User, accounts: &Accounts) -> Result<Ids, UserError> {
    let named = named_user(&wanted.image_user, accounts)?;
    let (uid, mut gid) = match wanted.uid {
        // A user by number brings its own primary group, not that of the user it replaces.
        Some(uid) => (uid, accounts.user_with(uid).map_or(0, |user| user.gid)),
        None => named,
    };
    if let Some(overriding) = wanted.gid {
        gid = overriding;
    }
    let mut groups = vec![gid];
    let mut add = |group: u32| {
        if !groups.contains(&group) {
            groups.push(group);
        }
    };
    let account = accounts.user_with(uid);
    if !wanted.strict_groups {
        // Names come before numbers: the entry that the image names counts, should several have the same number.
        let name = match wanted.uid {
            Some(_) => account.map(|user| user.name.as_str()),
            None => user_name(&wanted.image_user, accounts),
        };
        name.into_iter().flat_map(|name| accounts.groups_of(name)).for_each(&mut add);
    }
    wanted.supplemental_groups.iter().copied().for_each(&mut add);
    let home = account.map(|user| user.home.clone()).filter(|home| !home.is_empty());
    Ok(Ids { uid, gid, groups, home: home.unwrap_or_else(|| "/".to_owned()) })
}

/// User and primary group of what an image writes; root for an empty text.
fn named_user(text: &str, accounts: &Accounts) -> Result<(u32, u32), UserError> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    match text.split(':').collect::<Vec<_>>()[..] {
        [user] => match number(user) {
            Some(uid) => Ok((uid, accounts.user_with(uid).map_or(0, |account| account.gid))),
            None => accounts.user_named(user).map(|account| (account.uid, account.gid)).ok_or(UserError::NoUsers),
        },
        [user, group] => {
            let uid = match number(user) {
                Some(uid) => uid,
                None => accounts.user_named(user).ok_or(UserError::NoUsers)?.uid,
            };
            let gid = match number(group) {
                Some(gid) => gid,
                None => accounts.groups.iter().find(|entry| entry.name == group).ok_or(UserError::NoGroups)?.gid,
            };
            Ok((uid, gid))
        }
        _ => Err(UserError::Invalid { value: text.to_owned() }),
    }
}

/// Name of the user that an image writes, where the image knows one.
fn user_name<'a>(text: &'a str, accounts: &'a Accounts) -> Option<&'a str> {
    let user = text.split(':').next().unwrap_or_default();
    let uid = if user.is_empty() { Some(0) } else { number(user) };
    match uid {
        Some(uid) => accounts.user_with(uid).map(|account| account.name.as_str()),
        None => Some(user),
    }
}

fn number(text: &str) -> Option<u32> {
    let number: i64 = text.parse().ok()?;
    (0..=MAX_ID).contains(&number).then(|| u32::try_from(number).expect("a number up to i32::MAX fits"))
}

#[cfg(test)]
mod tests;
