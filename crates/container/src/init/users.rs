//! Who `user[:group]` is, by the container's own passwd and group files. They come with the image and are read with care.

use crate::channel::failed;
use insula_boundary::Error;
use insula_spec::plan::{Process, User};
use insula_sys::{Context, Errno, defence, mount};
use rustix::fd::AsFd;
use rustix::fs::OFlags;
use std::io::Read;
use std::path::Path;

/// The most that is read of such a file, in bytes.
const LONGEST: u64 = 8 << 20;

/// A user found, and its home directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) user: User,
    pub(super) home: Option<String>,
}

/// Who a process is, and its environment with a home; `look_up` is asked if the plan doesn't say it all.
pub(super) fn who(process: &Process, look_up: impl FnOnce(&str) -> Result<Found, Error>) -> Result<(User, Vec<String>), Error> {
    let mut user = process.user.clone();
    let mut env = process.env.clone();
    let has_home = env.iter().any(|text| text.starts_with("HOME="));
    if process.user.lookup.is_some() || !has_home {
        let text = user.lookup.clone().unwrap_or_else(|| user.uid.to_string());
        let found = look_up(&text);
        // Only its home is wanted when the number is given; a broken file is no reason to fail then.
        let found = if process.user.lookup.is_some() { found? } else { found.unwrap_or_default() };
        if process.user.lookup.is_some() {
            user = found.user;
        }
        if !has_home {
            env.push(format!("HOME={}", found.home.as_deref().unwrap_or("/")));
        }
    }
    Ok((user, env))
}

/// Looks up `name`, `uid`, `name:group` or `uid:gid` below a root. Numbers need no entry.
pub(super) fn look_up(root: impl AsFd, text: &str, like: &User) -> Result<Found, Error> {
    let passwd = read(&root, "/etc/passwd")?;
    let group = read(&root, "/etc/group")?;
    find(&passwd, &group, text, like)
}

fn read(root: impl AsFd, path: &str) -> Result<String, Error> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let longest = if defence::stands("bounded-users") { LONGEST } else { u64::MAX };
    let file = match mount::open_inside(root, Path::new(path), flags) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        result => result.on("read the container's", path).map_err(failed)?,
    };
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(longest).read_to_end(&mut bytes).on("read the container's", path).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn find(passwd: &str, group: &str, text: &str, like: &User) -> Result<Found, Error> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let number = user.parse::<u32>().ok();
    let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 6);
    let entry =
        lines.into_iter().find(|fields| fields[0] == user || number.is_some() && fields[2].parse() == Ok(number.unwrap_or(0)));
    let of_entry = |index: usize| entry.as_ref().and_then(|fields| fields[index].parse::<u32>().ok());
    let uid = number.or_else(|| of_entry(2)).ok_or_else(|| {
        Error::Failed(format!("user {user:?} is not in the container's /etc/passwd; use a name from there, or a number"))
    })?;
    let mut found =
        User { uid, gid: of_entry(3).unwrap_or(like.gid), groups: like.groups.clone(), umask: like.umask, lookup: None };
    match wanted_group {
        Some(name) => found.gid = group_number(group, name)?,
        None => {
            let name = entry.as_ref().map_or(user, |fields| fields[0]);
            found.groups.extend(memberships(group, name));
        }
    }
    Ok(Found { user: found, home: entry.map(|fields| fields[5].to_owned()).filter(|home| home.starts_with('/')) })
}

fn group_number(group: &str, name: &str) -> Result<u32, Error> {
    let named = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    named.or_else(|| name.parse().ok()).ok_or_else(|| {
        Error::Failed(format!("group {name:?} is not in the container's /etc/group; use a name from there, or a number"))
    })
}

/// The groups that list a user as a member.
fn memberships(group: &str, name: &str) -> Vec<u32> {
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let listed = fields.get(3)?.split(',').any(|member| member == name);
        if listed { fields[2].parse().ok() } else { None }
    };
    group.lines().filter_map(member).take(65536).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:w:/var/www:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\ndocker:x:99:web,other\n:::\n";

    #[test]
    fn names_numbers_and_groups() {
        let like = User { gid: 5, ..User::default() };
        let web = find(PASSWD, GROUP, "web", &like).unwrap();
        assert_eq!(
            (web.user.uid, web.user.gid, web.user.groups.clone(), web.home.as_deref()),
            (33, 34, vec![99], Some("/var/www"))
        );
        let number = find(PASSWD, GROUP, "33", &like).unwrap();
        assert_eq!((number.user.uid, number.user.gid), (33, 34));
        let unknown = find(PASSWD, GROUP, "1000:docker", &like).unwrap();
        assert_eq!((unknown.user.uid, unknown.user.gid), (1000, 99));
        assert!(find(PASSWD, GROUP, "nobody-here", &like).is_err());
        assert!(find(PASSWD, GROUP, "root:nogroup", &like).is_err());
    }
}
