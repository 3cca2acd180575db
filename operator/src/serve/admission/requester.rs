//! Who asks for work: whoever creates the Task or the Plan, and nobody else later.
//!
//! Rules see the requester whole: whoever has more groups than can be kept is refused, never cut.

use countersign_core::escape::{escaped, excerpt, hides};
use countersign_crds::{GROUP_BYTES, GROUPS, GROUPS_BYTES, Identity};
use k8s_openapi::api::authentication::v1::UserInfo;

use super::review::Refusal;

/// How much of a name is told, in characters.
const NAME_CHARS: usize = 512;

/// Whoever sends the request, where it has a sender.
///
/// # Errors
/// They are in more groups than an Identity holds, or a name of theirs hides characters.
pub fn of(user: &UserInfo) -> Result<Option<Identity>, Refusal> {
    let Some(name) = user.username.clone().filter(|name| !name.is_empty()) else { return Ok(None) };
    readable(user)?;
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

/// Refuses whoever passes for somebody else where names are read: by characters that nobody sees, or that move others.
///
/// # Errors
/// The user's name, a service account's included, or that of a group hides characters.
pub fn readable(user: &UserInfo) -> Result<(), Refusal> {
    let hidden = |what: &str, name: &str| {
        Err(Refusal::forbidden(&format!(
            "{what} hides characters, which are spelt out here: {}; people who read it would take it for another, so ask as somebody without them, or have whoever names you take them out",
            excerpt(&escaped(name), NAME_CHARS)
        )))
    };
    if let Some(name) = user.username.as_deref().filter(|name| hides(name)) {
        return hidden("userInfo.username: your name", name);
    }
    match user.groups.iter().flatten().find(|group| hides(group)) {
        Some(group) => hidden("userInfo.groups: a group of yours", group),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_name_that_hides_characters_asks_for_nothing() {
        for (hidden, escape) in [
            ('\u{200b}', "\\u{200b}"),
            ('\u{ad}', "\\u{ad}"),
            ('\u{202e}', "\\u{202e}"),
            ('\u{2066}', "\\u{2066}"),
            ('\u{e0041}', "\\u{e0041}"),
            ('\u{3164}', "\\u{3164}"),
            ('\u{feff}', "\\u{feff}"),
            ('\u{1b}', "\\u{1b}"),
        ] {
            let named = |name: &str, group: &str| UserInfo {
                username: Some(name.to_owned()),
                groups: Some(vec!["people".to_owned(), group.to_owned()]),
                ..UserInfo::default()
            };
            let account = format!("system:serviceaccount:ns:flux{hidden}");
            for (user, what) in [
                (
                    named(&format!("al{hidden}ice"), "staff"),
                    format!("your name hides characters, which are spelt out here: al{escape}ice;"),
                ),
                (named(&account, "staff"), format!("system:serviceaccount:ns:flux{escape};")),
                (
                    named("alice", &format!("{hidden}treasury")),
                    format!("a group of yours hides characters, which are spelt out here: {escape}treasury;"),
                ),
            ] {
                let refusal = of(&user).unwrap_err();
                assert!(refusal.code == 403 && refusal.message.contains(&what), "{}", refusal.message);
                assert!(!refusal.message.contains(hidden), "{}", refusal.message);
            }
        }
        for name in ["alice", "дмитрий", "C:\\users", "o'neil — sales", "مريم"] {
            let user = UserInfo { username: Some(name.into()), ..UserInfo::default() };
            assert!(of(&user).is_ok_and(|found| found.is_some_and(|found| found.user == name)), "{name}");
        }
        let long = of(&UserInfo { username: Some("\u{200b}".repeat(10_000)), ..UserInfo::default() }).unwrap_err();
        assert!(long.message.chars().count() < 1000, "{}", long.message);
    }

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
