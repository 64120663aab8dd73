//! Reads who may connect to a gate on a Unix socket.

use std::path::Path;

use super::{Listen, Origin, ReadFile, Setting, layers::Layers};

/// Mode and group of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketAccess {
    /// The permission bits.
    pub mode: u32,
    /// The group's number; `None`: that of the process.
    pub group: Option<u32>,
}

impl Default for SocketAccess {
    /// Nobody but the owner.
    fn default() -> Self {
        Self {
            mode: 0o600,
            group: None,
        }
    }
}

/// Reads the settings and notes their rows. `None` if a fault was noted instead.
pub(super) fn read(
    layers: &mut Layers<'_>,
    gate: Option<&Listen>,
    read_file: ReadFile<'_>,
) -> Option<SocketAccess> {
    let mode = layers.read(Setting::GateMode, "0600", parse_mode);
    let group = layers.read_unquoted(
        Setting::GateGroup,
        |text| find_group(text, read_file),
        |(shown, _)| shown.clone(),
    );
    if let Some(gate @ Listen::Tcp(_)) = gate {
        for setting in [Setting::GateMode, Setting::GateGroup] {
            let origin = layers.source(setting);
            if origin != Origin::Default {
                layers.conflict(&format!(
                    "{}, from {origin}: is for a Unix socket, and the gate listens on {gate}; take this out, or write \
                     unix:/path for the gate",
                    setting.name()
                ));
            }
        }
    }
    Some(SocketAccess {
        mode: mode?,
        group: group.ok()?.map(|(_, number)| number),
    })
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let well_formed =
        (3..=4).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    u32::from_str_radix(text, 8)
        .ok()
        // The owner, which is this process, can always connect: it looks there whether anybody listens.
        .filter(|mode| well_formed && *mode <= 0o777 && mode & 0o600 == 0o600)
        .ok_or_else(|| {
            "is no mode of a socket; write it in octal, such as 0600, 0660 or 0666".into()
        })
}

/// The name as given, and the number of the group.
fn find_group(text: &str, read_file: ReadFile<'_>) -> Result<(String, u32), String> {
    const GROUPS: &str = "/etc/group";
    if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
        let number = text.parse().ok().filter(|number| *number != u32::MAX);
        let number = number.ok_or_else(|| format!("{text:?} is no number of a group"))?;
        return Ok((text.to_owned(), number));
    }
    let groups = read_file(Path::new(GROUPS)).map_err(|error| {
        format!("{text:?} cannot be looked up: {GROUPS} cannot be read: {error}; write the group's number")
    })?;
    // name:password:number:members
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(text) && !text.is_empty();
        is_it.then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    let number = found.ok_or_else(|| {
        format!("{text:?} is no group of {GROUPS}; name one that is, or write its number")
    })?;
    Ok((text.to_owned(), number))
}
