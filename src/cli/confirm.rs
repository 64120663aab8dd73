//! Asks before something breaks.

use super::{console::Console, failure::Failure};

/// Refuses where nobody can be asked, and names the flags to say instead. To be called before anything is read or written.
pub(super) fn require_terminal(console: &Console<'_>, flags: &str) -> Result<(), Failure> {
    if console.terminal {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "this asks first, and there is no terminal to ask on; to go ahead unasked say {flags}"
    )))
}

/// Asks, and fails unless the answer is yes.
pub(super) fn ask(console: &mut Console<'_>, question: &str) -> Result<(), Failure> {
    write!(console.err, "{question} [y/N] ").and_then(|()| console.err.flush())?;
    let mut answer = String::new();
    console.stdin.read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::Failed("not confirmed; nothing was changed".into()))
}
