//! Who asks for work: whoever creates the Task or the Plan, and nobody else later.

use countersign_crds::Identity;
use k8s_openapi::api::authentication::v1::UserInfo;

/// How many groups of a person are kept, and how long each may be; as the schema holds.
const GROUPS: usize = 64;
const GROUP_BYTES: usize = 256;

/// The requester to store: on creation whoever sends the request, later what was there.
pub fn stamp(user: &UserInfo, old: Option<Option<Identity>>) -> Option<Identity> {
    match old {
        Some(old) => old,
        None => Some(Identity {
            user: user.username.clone().filter(|name| !name.is_empty())?,
            uid: user.uid.clone().filter(|uid| !uid.is_empty()),
            groups: groups(user),
        }),
    }
}

pub fn groups(user: &UserInfo) -> Vec<String> {
    let groups = user.groups.iter().flatten();
    groups.filter(|group| group.len() <= GROUP_BYTES).take(GROUPS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requester_is_the_sender_once_and_for_all() {
        let groups = Some(vec!["a".to_owned(), "g".repeat(300)]);
        let alice =
            UserInfo { username: Some("alice".into()), uid: Some(String::new()), groups, ..UserInfo::default() };
        let stamped = stamp(&alice, None).unwrap();
        assert_eq!((stamped.user.as_str(), stamped.uid.clone(), stamped.groups.len()), ("alice", None, 1));
        let bob = UserInfo { username: Some("bob".into()), ..UserInfo::default() };
        assert_eq!(stamp(&bob, Some(Some(stamped.clone()))), Some(stamped));
        assert_eq!(stamp(&bob, Some(None)), None, "nobody becomes the requester of what is there already");
    }
}
