//! Who asks for work: whoever creates the Task or the Plan, and nobody else later.
//!
//! Rules see the requester whole: whoever has more groups than can be kept is refused, never cut.

use countersign_crds::{GROUP_BYTES, GROUPS, GROUPS_BYTES, Identity};
use k8s_openapi::api::authentication::v1::UserInfo;

use super::review::Refusal;

/// Whoever sends the request, where it has a sender.
///
/// # Errors
/// They are in more groups than an Identity holds.
pub fn of(user: &UserInfo) -> Result<Option<Identity>, Refusal> {
    let Some(name) = user.username.clone().filter(|name| !name.is_empty()) else { return Ok(None) };
    let groups = user.groups.clone().unwrap_or_default();
    let bytes: usize = groups.iter().map(String::len).sum();
    if groups.len() > GROUPS || bytes > GROUPS_BYTES {
        return Err(Refusal::forbidden(&format!(
            "you are in {} groups, whose names take {bytes} bytes; rules see all groups of whoever asks, and at most {GROUPS} of {GROUPS_BYTES} bytes together can be kept: ask as somebody who is in fewer, such as a ServiceAccount",
            groups.len()
        )));
    }
    if let Some(group) = groups.iter().find(|group| group.len() > GROUP_BYTES) {
        let message =
            format!("you are in a group whose name takes {} bytes; at most {GROUP_BYTES} can be kept", group.len());
        return Err(Refusal::forbidden(&message));
    }
    Ok(Some(Identity { user: name, uid: user.uid.clone().filter(|uid| !uid.is_empty()), groups }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(groups: Vec<String>) -> UserInfo {
        let groups = Some(groups);
        UserInfo { username: Some("alice".into()), uid: Some(String::new()), groups, ..UserInfo::default() }
    }

    #[test]
    fn every_group_is_kept_or_the_request_is_refused() {
        let names = |count: usize| (0..count).map(|n| format!("g{n}")).collect::<Vec<_>>();
        for count in [0, 1, 64, 101, GROUPS] {
            let alice = of(&user(names(count))).unwrap().unwrap();
            assert_eq!((alice.user.as_str(), alice.uid, alice.groups), ("alice", None, names(count)));
        }
        let long = "g".repeat(GROUP_BYTES);
        for (groups, said) in [
            (names(GROUPS + 1), "you are in 513 groups"),
            (vec![long.clone() + "g"], "a group whose name takes 513 bytes"),
            (vec![long; 1 + GROUPS_BYTES / GROUP_BYTES], "whose names take"),
        ] {
            let refusal = of(&user(groups)).unwrap_err();
            assert!(refusal.code == 403 && refusal.message.contains(said), "{}", refusal.message);
        }
        assert_eq!(of(&UserInfo::default()), Ok(None));
    }
}
