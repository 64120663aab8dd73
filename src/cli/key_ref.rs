//! How the command line names a key: `workspaces/{workspace}/keys/{key id}`, a key id, or a token.

use std::{convert::Infallible, fmt, str::FromStr};

use zeroize::Zeroizing;

use super::failure::Failure;
use crate::domain::{
    credential::{NativeToken, SECRET_LENGTH},
    id::{DEFAULT_WORKSPACE, KeyId, WorkspaceId},
    name::KeyName,
};

/// An argument that may hold a secret. Wiped when dropped, never printed.
#[derive(Clone)]
pub(super) struct Guarded(pub(super) Zeroizing<String>);

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarded")
    }
}

impl FromStr for Guarded {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

/// Reads a key's name. Of a token only the key id is kept: its secret goes no further.
///
/// # Errors
/// If the text names no key. It is not quoted: it may be a secret.
pub(super) fn parse(text: &str, workspace: Option<&str>) -> Result<KeyName, String> {
    let text = without_scheme(text);
    let given = workspace.map(|_| workspace_id(workspace)).transpose()?;
    if names_workspace(text) {
        let name = KeyName::parse(text).map_err(|error| format!("KEY {error}"))?;
        return match given {
            Some(other) if other != name.workspace => Err(format!(
                "KEY is in the workspace {}, but --workspace names another",
                name.workspace
            )),
            _ => Ok(name),
        };
    }
    let workspace = given.unwrap_or_else(WorkspaceId::default_workspace);
    if text.contains('_') {
        // A token with a typo is refused whole: the typo may be in the key id, which its checksum covers.
        let token = NativeToken::parse(text).ok_or(
            "KEY looks like a token but is not a whole one; look for a typo or a missing part",
        )?;
        return Ok(KeyName {
            workspace,
            id: token.key_id(),
        });
    }
    let id = KeyId::parse(text.as_bytes())
        .ok_or("KEY must be a key id (22 letters and digits), workspaces/{workspace}/keys/{key id}, or a token")?;
    Ok(KeyName { workspace, id })
}

/// The text without white space around it, and without the scheme of an Authorization value, as which a token may be
/// pasted: `Bearer {token}`.
pub(super) fn without_scheme(text: &str) -> &str {
    let text = text.trim();
    let (scheme, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        rest.trim_start()
    } else {
        text
    }
}

/// True if the text names a key with its workspace.
pub(super) fn names_workspace(text: &str) -> bool {
    without_scheme(text).starts_with("workspaces/")
}

/// The workspace that `--workspace` names: `{workspace}` or `workspaces/{workspace}`.
///
/// # Errors
/// If it is not of a workspace id's form.
pub(super) fn workspace_id(workspace: Option<&str>) -> Result<WorkspaceId, String> {
    WorkspaceId::parse(bare_workspace(workspace.unwrap_or(DEFAULT_WORKSPACE)))
        .map_err(|error| format!("--workspace {error}"))
}

/// The id within a workspace's name.
pub(super) fn bare_workspace(name: &str) -> &str {
    name.strip_prefix("workspaces/").unwrap_or(name)
}

/// What a list is asked for, with the key id in the place of each token: who looks for a key may well paste one.
///
/// # Errors
/// If it still holds what could be a secret. It is not quoted.
pub(super) fn question(flag: &str, text: Option<&str>) -> Result<String, Failure> {
    let is_break = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let mut asked = String::new();
    for run in text.unwrap_or_default().split_inclusive(is_break) {
        let word = run.trim_end_matches(is_break);
        match NativeToken::parse(word) {
            Some(token) => asked.push_str(&token.key_id().to_string()),
            None if could_be_secret(word) => {
                return Err(Failure::Usage(format!(
                    "{flag} holds what looks like a secret; name a key by its key id"
                )));
            }
            None => asked.push_str(word),
        }
        asked.push_str(&run[word.len()..]);
    }
    Ok(asked)
}

/// True for a word of a token's form, whole or with a typo, and for one as long as a secret.
fn could_be_secret(word: &str) -> bool {
    const LONGEST_HARMLESS: usize = 30;
    let mut parts = word.rsplit('_');
    let last = parts.next().unwrap_or_default();
    last.len() == SECRET_LENGTH || (last.len() > LONGEST_HARMLESS && parts.next().is_some())
}

/// The text with `…` in the place of everything that could be a secret, whole or mistyped: any run of more than 30 letters
/// and digits (a key id has 22), and the rest of the line after the scheme of a Redis URL, which may hold a password.
pub(super) fn without_secrets(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let schemes = ["redis://", "rediss://", "redis+unix://"].into_iter();
        let end = schemes
            .filter_map(|scheme| Some(line.find(scheme)? + scheme.len()))
            .min();
        match end {
            Some(end) if line.ends_with('\n') => format!("{}…\n", &line[..end]),
            Some(end) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        }
    });
    without_long_runs(&lines.collect::<String>())
}

fn without_long_runs(text: &str) -> String {
    const LONGEST_KEPT: usize = 30;
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .map(|run| {
            let end = run.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if end.len() > LONGEST_KEPT {
                format!("…{}", &run[end.len()..])
            } else {
                run.to_owned()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::{KEY_ID, token};

    #[test]
    fn a_key_is_named_by_name_id_or_token() {
        let named = format!("workspaces/acme/keys/{KEY_ID}");
        for (text, workspace, name) in [
            (named.as_str(), None, named.clone()),
            (&named, Some("acme"), named.clone()),
            (&named, Some("workspaces/acme"), named.clone()),
            (KEY_ID, Some("workspaces/acme"), named.clone()),
            (KEY_ID, None, format!("workspaces/default/keys/{KEY_ID}")),
            (&token(), None, format!("workspaces/default/keys/{KEY_ID}")),
            (&token(), Some("acme"), named.clone()),
            (
                &format!("bearer  {}\n", token()),
                Some("acme"),
                named.clone(),
            ),
            (&format!(" {KEY_ID}\n"), Some("acme"), named.clone()),
        ] {
            assert_eq!(parse(text, workspace).unwrap().to_string(), name);
        }
    }

    #[test]
    fn the_secret_of_a_token_is_cut_off() {
        let token = token();
        let secret = token.rsplit('_').next().unwrap();
        let name = parse(&token, None).unwrap();
        assert!(!name.to_string().contains(secret));
        assert!(!format!("{name:?}").contains(secret));
    }

    #[test]
    fn a_token_in_the_wrong_place_is_repeated_without_its_secret() {
        let token = token();
        let secret = token.rsplit('_').next().unwrap();
        let said = without_secrets(&format!(
            "unexpected argument '{token}' found\n  tip: {secret}"
        ));
        assert!(!said.contains(&secret[..8]), "{said}");
        assert_eq!(
            said,
            format!("unexpected argument 'pc_{KEY_ID}_…' found\n  tip: …")
        );
        assert_eq!(without_secrets("plain words, kept"), "plain words, kept");
    }

    #[test]
    fn a_redis_url_in_the_wrong_place_is_repeated_without_its_password() {
        for scheme in ["redis://", "rediss://", "redis+unix://"] {
            for rest in ["u:hunter2@h:1/2", ":hunter2", "hunter2", "a b:'hunter2'@h"] {
                let said = without_secrets(&format!(
                    "unexpected argument '{scheme}{rest}' found\n\nUsage: x\n"
                ));
                assert_eq!(
                    said,
                    format!("unexpected argument '{scheme}…\n\nUsage: x\n")
                );
            }
        }
    }

    #[test]
    fn a_question_names_keys_without_their_secrets() {
        let token = token();
        let secret = token.rsplit('_').next().unwrap();
        let ask = |text: &str| question("--query", Some(text));
        let told = ask(&format!("a AND key_id = \"{token}\" b_c {token}")).unwrap();
        assert_eq!(told, format!("a AND key_id = \"{KEY_ID}\" b_c {KEY_ID}"));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for harmless in [
            "",
            "(a = 'ä_b')",
            KEY_ID,
            commit,
            "secret_create_time < \"-90d\"",
        ] {
            assert_eq!(ask(harmless).unwrap(), harmless);
        }
        for guarded in [
            secret,
            &token[..token.len() - 1],
            &token.replacen("pc_", "PC_", 1),
            &format!("x = {token}0"),
            &format!("{KEY_ID}:{secret}"),
        ] {
            let error = ask(guarded).unwrap_err().to_string();
            assert!(
                error.contains("--query") && !error.contains(&secret[..8]),
                "{error}"
            );
        }
        assert_eq!(question("--query", None).unwrap(), "");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        let token = token();
        let secret = token.rsplit('_').next().unwrap();
        for text in [
            "",
            "first",
            secret,
            &token[..token.len() - 1],
            &token.replacen("pc_", "PC_", 1),
            &format!("{token}0"),
            &format!("workspaces/default/keys/{token}"),
            &format!("workspaces/acme/{KEY_ID}"),
        ] {
            let error = parse(text, None).unwrap_err();
            assert!(!error.contains(&secret[..8]), "{error}");
        }
        assert!(parse(&format!("workspaces/acme/keys/{KEY_ID}"), Some("other")).is_err());
        assert!(parse(KEY_ID, Some("Not-An-Id")).is_err());
    }
}
