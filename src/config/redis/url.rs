//! Reads the URL of a Redis.
//!
//! No problem quotes any part of the text: where it is malformed, nobody can tell which part is the password.

use std::{
    fmt::Write as _,
    net::Ipv6Addr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Password, RedisAddress};

const DEFAULT_PORT: u16 = 6379;
/// What fits in `sockaddr_un.sun_path` on Linux with its closing NUL.
const MAX_SOCKET_PATH: usize = 107;
const FORMS: &str = "write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or redis+unix:///PATH?db=DB";

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RedisUrl {
    pub(super) place: Place,
    pub(super) user: Option<String>,
    pub(super) password: Option<Password>,
    pub(super) database: u32,
}

/// Where a URL leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix(PathBuf),
}

impl RedisUrl {
    /// The URL without what may be secret in it.
    pub(super) fn shown(&self) -> String {
        match &self.place {
            Place::Tcp { host, port } => of(&RedisAddress::Tcp(host.clone(), *port), self.database),
            Place::Tls { host, port } => {
                let (host, port) = (host.clone(), *port);
                let (ca, client) = (None, None);
                let address = RedisAddress::Tls {
                    host,
                    port,
                    ca,
                    client,
                };
                of(&address, self.database)
            }
            Place::Unix(path) => of_socket(path, self.database),
        }
    }
}

/// The URL of a database, without user and password.
pub(super) fn of(address: &RedisAddress, database: u32) -> String {
    match address {
        RedisAddress::Unix(path) => of_socket(path, database),
        address if database == 0 => address.to_string(),
        address => format!("{address}/{database}"),
    }
}

fn of_socket(path: &Path, database: u32) -> String {
    let mut url = "redis+unix://".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        // Writing to a String cannot fail.
        let _ = if byte.is_ascii_graphic() && !b"%?#".contains(&byte) {
            url.write_char(byte.into())
        } else {
            write!(url, "%{byte:02X}")
        };
    }
    if database != 0 {
        let _ = write!(url, "?db={database}");
    }
    url
}

/// Reads `redis://[user[:password]@]host[:port][/db]`, the same with `rediss`, and `redis+unix:///path[?db=n]`.
pub(super) fn parse(text: &str) -> Result<RedisUrl, String> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| format!("is no URL; {FORMS}"))?;
    if rest.contains('#') {
        return Err("has a '#', which means nothing here; in a password write it as %23".into());
    }
    match scheme {
        "redis" => parse_network(rest, |host, port| Place::Tcp { host, port }),
        "rediss" => parse_network(rest, |host, port| Place::Tls { host, port }),
        "redis+unix" => parse_socket(rest),
        _ => Err(format!("is of a scheme that is not known here; {FORMS}")),
    }
}

fn parse_network(rest: &str, place: impl FnOnce(String, u16) -> Place) -> Result<RedisUrl, String> {
    if rest.contains('?') {
        return Err(
            "has a '?': there are no query parameters here. The database is the path, as in redis://HOST:6379/1; in a \
             password write '?' as %3F"
                .into(),
        );
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user_info, address) = match authority.rsplit_once('@') {
        Some((user_info, address)) => (Some(user_info), address),
        None => (None, authority),
    };
    let (user, password) = user_info.map_or(Ok((None, None)), parse_user)?;
    let (host, port) = parse_address(address)?;
    Ok(RedisUrl {
        place: place(host, port),
        user,
        password,
        database: if path.is_empty() {
            0
        } else {
            parse_database(path)?
        },
    })
}

fn parse_user(text: &str) -> Result<(Option<String>, Option<Password>), String> {
    if text.contains('@') {
        return Err("has an '@' within its user or password; write it as %40".into());
    }
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    let password = Some(decode(password)?).filter(|password| !password.is_empty());
    Ok((
        user.map(|user| user.as_str().to_owned()),
        password.map(|mut password| Password::new(std::mem::take(&mut *password))),
    ))
}

fn parse_address(text: &str) -> Result<(String, u16), String> {
    const HOW: &str = "names no host and port; write HOST, HOST:PORT, [IPV6] or [IPV6]:PORT, and in a user or password \
                       '/' as %2F, ':' as %3A and '@' as %40";
    let (host, port) = if let Some(literal) = text.strip_prefix('[') {
        let (literal, port) = literal.split_once(']').ok_or(HOW)?;
        let address: Ipv6Addr = literal.parse().map_err(|_| HOW)?;
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').ok_or(HOW)?),
        };
        (address.to_string(), port)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let well_formed = (1..=253).contains(&host.len())
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !well_formed {
            return Err(HOW.into());
        }
        (host.to_owned(), port)
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => number(port)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|&port| port != 0)
            .ok_or(HOW)?,
    };
    Ok((host, port))
}

fn parse_socket(rest: &str) -> Result<RedisUrl, String> {
    const HOW: &str = "names no socket; write redis+unix:///PATH or redis+unix:///PATH?db=N, and give a user as redis-user \
                       and a password as PORTCULLIS_REDIS_PASSWORD";
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(HOW.into());
    }
    let path = decode(path)?;
    if path.chars().any(char::is_control) {
        return Err(HOW.into());
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(format!(
            "has a longer path than a socket may have ({MAX_SOCKET_PATH} bytes); shorten it"
        ));
    }
    let database = match query {
        None => 0,
        Some(query) => parse_database(query.strip_prefix("db=").ok_or(
            "has a query parameter other than db, which is the only one here; write redis+unix:///PATH?db=N",
        )?)?,
    };
    Ok(RedisUrl {
        place: Place::Unix(PathBuf::from(path.as_str())),
        user: None,
        password: None,
        database,
    })
}

fn parse_database(text: &str) -> Result<u32, String> {
    number(text).ok_or_else(|| {
        "names a database that is no number; write /0, /1 and so on after the port (?db=0 with a socket), and in a \
         user or password '/' as %2F"
            .into()
    })
}

/// Digits alone, and no leading zero.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Decodes what is written as `%` and two hexadecimal digits.
fn decode(text: &str) -> Result<Zeroizing<String>, String> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(bytes.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(
                "has a '%' that is not followed by two hexadecimal digits; write the sign itself as %25".into(),
            );
        };
        decoded.push(high << 4 | low);
    }
    match std::str::from_utf8(&decoded) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err("does not decode to UTF-8; write it as UTF-8 text, percent-encoded".into()),
    }
}
