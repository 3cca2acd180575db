//! Who asks for work: whoever creates the Task or the Plan, and nobody else later.

use countersign_crds::Identity;
use k8s_openapi::api::authentication::v1::UserInfo;

/// How many groups of a person are kept, and how long each may be; as the schema holds.
const GROUPS: usize = 64;
const GROUP_BYTES: usize = 256;

/// Whoever sends the request, where it has a sender.
pub fn of(user: &UserInfo) -> Option<Identity> {
    Some(Identity {
        user: user.username.clone().filter(|name| !name.is_empty())?,
        uid: user.uid.clone().filter(|uid| !uid.is_empty()),
        groups: groups(user),
    })
}

/// The groups of a person, as many as an Identity holds.
pub fn groups(user: &UserInfo) -> Vec<String> {
    let groups = user.groups.iter().flatten();
    groups.filter(|group| group.len() <= GROUP_BYTES).take(GROUPS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_kept_as_far_as_the_schema_holds() {
        let groups = Some(vec!["a".to_owned(), "g".repeat(300)]);
        let alice =
            UserInfo { username: Some("alice".into()), uid: Some(String::new()), groups, ..UserInfo::default() };
        let requester = of(&alice).unwrap();
        assert_eq!((requester.user.as_str(), requester.uid, requester.groups), ("alice", None, vec!["a".to_owned()]));
        assert_eq!(of(&UserInfo::default()), None);
    }
}
