//! Which keys authenticate hellos, while Secrets change. Pure: the Secrets and the time go in.

use std::time::{Duration, Instant};

use ferrolb_layer2::config::Keys;

use crate::core::config::hello_secrets::{HelloKey, HelloSecrets};

/// How long a new key is only accepted, until all nodes have received it.
pub(crate) const SPREAD_TIME: Duration = Duration::from_mins(1);
/// How long the key before is accepted after that.
pub(crate) const RETIRE_TIME: Duration = Duration::from_mins(10);

/// The keys in use.
#[derive(Debug, Default)]
pub(crate) struct HelloKeys {
    secrets: HelloSecrets,
    current: Option<HelloKey>,
    /// The key to use next, and since when it is known.
    next: Option<(HelloKey, Instant)>,
    /// Earlier keys, with the end of their acceptance.
    retired: Vec<(HelloKey, Instant)>,
}

impl HelloKeys {
    /// Applies the current Secrets and the time. A key whose Secret is gone or invalid stays in use
    /// until there is another one: without a key, nothing is announced.
    pub(crate) fn update(&mut self, now: Instant, secrets: &HelloSecrets) {
        if self.secrets != *secrets {
            self.secrets = secrets.clone();
        }
        self.retired.retain(|(_, until)| now < *until);
        let Some(preferred) = secrets.preferred() else {
            self.next = None;
            return;
        };
        match &self.current {
            None => self.current = Some(preferred.clone()),
            Some(current) if current == preferred => self.next = None,
            Some(current) => match &self.next {
                Some((next, since)) if next == preferred => {
                    if now >= *since + SPREAD_TIME {
                        self.retired.push((current.clone(), now + RETIRE_TIME));
                        self.current = Some(preferred.clone());
                        self.next = None;
                    }
                }
                _ => self.next = Some((preferred.clone(), now)),
            },
        }
    }

    /// The keys for the engine.
    pub(crate) fn keys(&self) -> Keys {
        let mut accepted = Vec::new();
        let next = self.next.iter().map(|(key, _)| key);
        let retired = self.retired.iter().map(|(key, _)| key);
        for key in next.chain(self.secrets.all()).chain(retired) {
            if Some(key) != self.current.as_ref() && !accepted.contains(&key.octets()) {
                accepted.push(key.octets());
            }
        }
        Keys {
            current: self.current.as_ref().map(HelloKey::octets),
            accepted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(memberlist: Option<&str>, own: Option<&str>) -> HelloSecrets {
        HelloSecrets {
            exists: memberlist.or(own).is_some(),
            memberlist: memberlist.map(HelloKey::from),
            own: own.map(HelloKey::from),
            previous: Vec::new(),
        }
    }

    /// The current key, and the accepted ones in order of their text.
    fn shown(keys: &HelloKeys) -> (String, Vec<String>) {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let keys = keys.keys();
        let mut accepted: Vec<String> = keys.accepted.iter().map(|key| text(key)).collect();
        accepted.sort();
        (text(keys.current.as_deref().unwrap_or_default()), accepted)
    }

    fn pair(current: &str, accepted: &[&str]) -> (String, Vec<String>) {
        let accepted = accepted.iter().map(|key| (*key).to_owned());
        (current.to_owned(), accepted.collect())
    }

    #[test]
    fn the_first_key_is_used_at_once() {
        let now = Instant::now();
        let mut keys = HelloKeys::default();
        keys.update(now, &secrets(None, None));
        assert_eq!(shown(&keys), pair("", &[]));
        keys.update(now, &secrets(Some("m"), Some("o")));
        assert_eq!(shown(&keys), pair("m", &["o"]));
    }

    #[test]
    fn a_process_that_starts_during_a_rotation_accepts_the_previous_key() {
        let now = Instant::now();
        let rotated = HelloSecrets {
            previous: vec![HelloKey::from("old")],
            ..secrets(Some("new"), None)
        };
        let mut keys = HelloKeys::default();
        keys.update(now, &rotated);
        assert_eq!(shown(&keys), pair("new", &["old"]));
        // The others still send with the old key, and accept the new one already.
        let mut other = HelloKeys::default();
        other.update(now, &secrets(Some("old"), None));
        other.update(now, &rotated);
        assert_eq!(shown(&other), pair("old", &["new"]));
    }

    #[test]
    fn a_later_memberlist_is_accepted_first_then_used_and_the_old_key_retires() {
        let now = Instant::now();
        let mut keys = HelloKeys::default();
        keys.update(now, &secrets(None, Some("o")));
        let both = secrets(Some("m"), Some("o"));
        keys.update(now, &both);
        assert_eq!(shown(&keys), pair("o", &["m"]));
        keys.update(now + SPREAD_TIME - Duration::from_secs(1), &both);
        assert_eq!(shown(&keys), pair("o", &["m"]));
        // The own Secret is deleted meanwhile: its key stays current until the switch.
        let only = secrets(Some("m"), None);
        keys.update(now + SPREAD_TIME, &only);
        assert_eq!(shown(&keys), pair("m", &["o"]));
        keys.update(now + SPREAD_TIME + RETIRE_TIME, &only);
        assert_eq!(shown(&keys), pair("m", &[]));
    }

    #[test]
    fn a_key_stays_in_use_while_no_secret_has_a_valid_one() {
        let now = Instant::now();
        let mut keys = HelloKeys::default();
        keys.update(now, &secrets(Some("m"), None));
        keys.update(now + RETIRE_TIME, &secrets(None, None));
        assert_eq!(shown(&keys), pair("m", &[]));
    }

    #[test]
    fn a_change_that_is_undone_before_the_switch_changes_nothing() {
        let now = Instant::now();
        let mut keys = HelloKeys::default();
        keys.update(now, &secrets(Some("a"), None));
        keys.update(now, &secrets(Some("b"), None));
        keys.update(now + SPREAD_TIME / 2, &secrets(Some("a"), None));
        keys.update(now + SPREAD_TIME * 2, &secrets(Some("b"), None));
        assert_eq!(shown(&keys), pair("a", &["b"]), "the time starts again");
    }
}
