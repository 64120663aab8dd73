//! The filter language of lists: a subset of AIP-160.
//!
//! ```text
//! state = ACTIVE AND (labels.team = payments OR permission = "sms.send") AND expire_time < "+7d"
//! ```
//!
//! - **Comparisons** are `field operator value`, with `=`, `!=`, `<`, `<=`, `>`, `>=` and `:` ("has").
//! - **`AND`, `OR`, `NOT`** are written in capitals. `OR` binds tighter than `AND`, as AIP-160 has it: `a AND b OR c` is
//!   `a AND (b OR c)`. `NOT`, or `-` right before it, stands before one comparison or parenthesis. Comparisons that just
//!   follow each other are refused: write the `AND`.
//! - **Values** are bare words of letters, digits and `_.*/:+-`, or quoted with `"` or `'`, where `\` stands before a quote,
//!   a `\` or a `*` that is meant as such.
//! - **Texts** take `=` and `!=`; a `*` at the beginning, the end or both stands for anything. `:` is "contains", in any
//!   case; `field:*` and `field = *` are "is not empty".
//! - **Sets** such as permissions take `=`, `!=` and `:`, all about having an element. A `*` at the beginning or end of a
//!   longer value stands for anything; `*` alone is the element of that name. A set that has the element `*` does not have
//!   the others for that.
//! - **Maps** such as labels: `labels:team` is "has that label", `labels:*` "has any"; `labels.team` takes what a text
//!   takes, and `labels.team:*` is again "has that label". Names may have dots: `labels.a.b` is the label `a.b`.
//! - **Times** take all operators. The value is RFC 3339 (`2026-12-31T09:00:00Z`), a date (its first instant in UTC), or
//!   relative to now: `+7d`, `-90d`, with units s, m, h, d and w. `expire_time:*` is "has one". A key without the time is
//!   neither before nor after anything, so `=`, `<`, `<=`, `>` and `>=` are all false for it.
//! - **Enums** take `=` and `!=` with one of their names.
//! - **`!=`** is always the opposite of `=`, also where there is nothing to compare.
//!
//! The empty filter passes everything. A filter has at most 4,096 bytes, 100 comparisons and 32 levels of parentheses.

mod condition;
mod parse;
mod times;

use std::borrow::Cow;

use super::{Invalid, time::Timestamp};

pub use condition::{Condition, Field, Kind, Test, TextTest, TimeTest};

/// The longest filter, in bytes.
pub const MAX_BYTES: usize = 4_096;
/// The deepest parentheses.
pub const MAX_DEPTH: usize = 32;
/// The most comparisons in a filter.
pub const MAX_COMPARISONS: usize = 100;

/// A filter over things of which one can ask `P`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter<P>(Node<P>);

/// Nests no deeper than the parentheses it was read from, so recursion over it is bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node<P> {
    All(Box<[Node<P>]>),
    Any(Box<[Node<P>]>),
    Not(Box<Node<P>>),
    Is(P),
}

impl<F: Field> Filter<Condition<F>> {
    /// Reads a filter on the fields of `F`. Relative times count from `now`.
    ///
    /// # Errors
    /// If the text is no filter, too large, names a field or a value that there is not, or compares in a way that the
    /// field does not take. The message says where and what was expected.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, Invalid> {
        parse::parse(text, |comparison| Condition::of(comparison, now)).map(Self)
    }
}

impl<P> Filter<P> {
    /// What passes everything.
    #[must_use]
    pub fn everything() -> Self {
        Self(Node::All(Box::default()))
    }

    /// True if nothing is asked.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        matches!(&self.0, Node::All(none) if none.is_empty())
    }

    /// True if a thing passes, of which `is` tells what is asked. Allocates nothing.
    pub fn passes(&self, mut is: impl FnMut(&P) -> bool) -> bool {
        self.0.passes(&mut is)
    }

    /// The same filter in other terms, such as what was looked up once for all things.
    pub fn map<'f, Q>(&'f self, mut translate: impl FnMut(&'f P) -> Q) -> Filter<Q> {
        Filter(self.0.map(&mut translate))
    }
}

impl<P> Node<P> {
    fn passes(&self, is: &mut impl FnMut(&P) -> bool) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.passes(is)),
            Self::Any(nodes) => nodes.iter().any(|node| node.passes(is)),
            Self::Not(node) => !node.passes(is),
            Self::Is(asked) => is(asked),
        }
    }

    fn map<'f, Q>(&'f self, translate: &mut impl FnMut(&'f P) -> Q) -> Node<Q> {
        match self {
            Self::All(nodes) => Node::All(nodes.iter().map(|node| node.map(translate)).collect()),
            Self::Any(nodes) => Node::Any(nodes.iter().map(|node| node.map(translate)).collect()),
            Self::Not(node) => Node::Not(Box::new(node.map(translate))),
            Self::Is(asked) => Node::Is(translate(asked)),
        }
    }
}

/// `field operator value`, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparison<'t> {
    /// The field's name and what follows it after dots.
    path: Vec<Cow<'t, str>>,
    operator: Operator,
    value: Value<'t>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Has,
}

impl Operator {
    const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Has => ":",
        }
    }
}

/// A value without its quotes and escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value<'t> {
    text: Cow<'t, str>,
    /// It begins with a `*` that is not escaped.
    star_first: bool,
    /// It ends with one.
    star_last: bool,
}

impl Value<'_> {
    /// True for `*` alone.
    fn is_star(&self) -> bool {
        self.star_first && self.text.len() == 1
    }
}

/// What somebody sent, fit to stand in a message: not too long, and nothing that misleads.
fn shown(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
