//! What an ordinary user lacks for an engine of their own, and what the administrator
//! does about it. Read from files, so that it is known before anything is started.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

/// Packages of Debian and Ubuntu with everything that is needed.
const PACKAGES: &str = "apt-get install -y rootlesskit uidmap slirp4netns";

/// How many users a container may have besides root.
const IDS: u64 = 65_536;

/// Who wants an engine.
#[derive(Debug)]
pub(super) struct User {
    pub(super) uid: u32,
    /// Unknown to the system's list of users: `None`.
    pub(super) name: Option<String>,
}

/// The first thing that is in the way. `root` is where the host's files lie.
pub(super) fn lacks(
    root: &Path,
    user: &User,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> Option<String> {
    for program in ["rootlesskit", "newuidmap", "newgidmap"] {
        if find(program).is_none() {
            return Some(format!(
                "{program} is not installed (Debian, Ubuntu: {PACKAGES})"
            ));
        }
    }
    for (setting, good) in [
        ("kernel/unprivileged_userns_clone", "1"),
        ("user/max_user_namespaces", "28633"),
    ] {
        let value = fs::read_to_string(root.join("proc/sys").join(setting)).unwrap_or_default();
        if value.trim() == "0" {
            let setting = setting.replace('/', ".");
            return Some(format!(
                "the kernel forbids user namespaces (as root: sysctl -w {setting}={good})"
            ));
        }
    }
    if let Some(text) = apparmor(root, &find("rootlesskit")?) {
        return Some(text);
    }
    // Where they come from a directory service, the files say nothing.
    let switch = fs::read_to_string(root.join("etc/nsswitch.conf")).unwrap_or_default();
    if switch
        .lines()
        .any(|line| line.trim_start().starts_with("subid:"))
    {
        return None;
    }
    let name = user.name.clone().unwrap_or_else(|| user.uid.to_string());
    for (file, option) in [("subuid", "--add-subuids"), ("subgid", "--add-subgids")] {
        let text = fs::read_to_string(root.join("etc").join(file)).unwrap_or_default();
        if ids_of(&text, user) >= IDS {
            continue;
        }
        let first = free(&text);
        return Some(format!(
            "/etc/{file} grants {name} fewer than {IDS} subordinate ids (as root: usermod {option} {first}-{} {name})",
            first + IDS - 1
        ));
    }
    None
}

/// Why namespaces with a network of their own cannot be had. Without one there is an
/// engine all the same.
pub(super) fn no_network(root: &Path, find: impl Fn(&str) -> Option<PathBuf>) -> Option<String> {
    if find("slirp4netns").is_none() {
        return Some(
            "slirp4netns is not installed (Debian, Ubuntu: apt-get install -y slirp4netns)"
                .to_owned(),
        );
    }
    let device = root.join("dev/net/tun");
    let opened = OpenOptions::new().read(true).write(true).open(device);
    opened.err().map(|error| {
        format!(
            "/dev/net/tun cannot be used: {error} (as root: modprobe tun; chmod 666 /dev/net/tun)"
        )
    })
}

/// Ubuntu grants namespaces to programs by name.
fn apparmor(root: &Path, kit: &Path) -> Option<String> {
    let setting = "proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    let value = fs::read_to_string(root.join(setting)).unwrap_or_default();
    if value.trim() != "1" {
        return None;
    }
    let kit = kit.to_string_lossy();
    let granted = fs::read_dir(root.join("etc/apparmor.d"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .any(|profile| profile.contains(&*kit) && profile.contains("userns"));
    (!granted).then(|| {
        format!(
            "AppArmor forbids user namespaces to {kit} (as root: a profile for it that allows userns, or \
             sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    })
}

/// Lines of name or number, first, count.
fn ranges(text: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        Some((
            who,
            fields.next()?.parse().ok()?,
            fields.next()?.parse().ok()?,
        ))
    })
}

fn ids_of(text: &str, user: &User) -> u64 {
    let number = user.uid.to_string();
    ranges(text)
        .filter(|(who, _, _)| *who == number || Some(*who) == user.name.as_deref())
        .map(|(_, _, count)| count)
        .max()
        .unwrap_or_default()
}

/// Behind every range that is granted.
fn free(text: &str) -> u64 {
    ranges(text)
        .map(|(_, first, count)| first.saturating_add(count))
        .fold(100_000, u64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGES: &str = "alice:100000:65536\n";

    /// A host with these files, and without these programs.
    fn check(files: &[(&str, &str)], without: &[&str], wanted: Option<&str>) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in [("etc/subuid", RANGES), ("etc/subgid", RANGES)]
            .iter()
            .chain(files)
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("makes");
            fs::write(path, text).expect("writes");
        }
        let user = User {
            uid: 1000,
            name: Some("alice".to_owned()),
        };
        let said = lacks(root.path(), &user, |program| {
            (!without.contains(&program)).then(|| PathBuf::from("/usr/bin").join(program))
        });
        match wanted {
            None => assert_eq!(said, None),
            Some(wanted) => {
                let said = said.unwrap_or_default();
                assert!(said.contains(wanted), "{said:?} lacks {wanted:?}");
            }
        }
    }

    #[test]
    fn each_obstacle_is_told_with_its_cure() {
        check(&[], &[], None);
        check(&[], &["slirp4netns"], None);
        check(&[], &["rootlesskit"], Some("rootlesskit is not installed"));
        check(&[], &["newgidmap"], Some("newgidmap is not installed"));
        check(
            &[("etc/subuid", "bob:100000:65536\n")],
            &[],
            Some("usermod --add-subuids 165536-231071 alice"),
        );
        check(
            &[("etc/subgid", "alice:100000:1000\n")],
            &[],
            Some("usermod --add-subgids 101000-166535 alice"),
        );
        check(&[("etc/subuid", "1000:200000:65536\n")], &[], None);
        check(
            &[("etc/subuid", ""), ("etc/nsswitch.conf", "subid: sss\n")],
            &[],
            None,
        );
        check(
            &[("proc/sys/user/max_user_namespaces", "0\n")],
            &[],
            Some("sysctl -w user.max_user_namespaces=28633"),
        );
        check(
            &[("proc/sys/kernel/unprivileged_userns_clone", "0\n")],
            &[],
            Some("sysctl -w kernel.unprivileged_userns_clone=1"),
        );
        let restricted = (
            "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1\n",
        );
        check(
            &[restricted],
            &[],
            Some("AppArmor forbids user namespaces to /usr/bin/rootlesskit"),
        );
        let profile = (
            "etc/apparmor.d/rootlesskit",
            "profile rootlesskit /usr/bin/rootlesskit flags=(unconfined) { userns, }",
        );
        check(&[restricted, profile], &[], None);
    }

    #[test]
    fn a_network_needs_a_program_and_a_device() {
        let root = tempfile::tempdir().expect("a folder");
        let device = root.path().join("dev/net/tun");
        let all = |program: &str| Some(PathBuf::from(program));
        let said = no_network(root.path(), all).expect("no device");
        assert!(said.contains("chmod 666 /dev/net/tun"), "{said}");
        fs::create_dir_all(device.parent().expect("it has one")).expect("makes");
        fs::write(&device, "").expect("writes");
        assert_eq!(no_network(root.path(), all), None);
        let said = no_network(root.path(), |_| None).expect("no program");
        assert!(said.contains("apt-get install -y slirp4netns"), "{said}");
    }
}
