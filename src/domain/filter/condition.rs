//! What a comparison asks of one field, by the kind of the field.

use super::{Comparison, Invalid, Operator, Timestamp, Value, shown, times};

/// A field that filters can name.
pub trait Field: Copy + 'static {
    /// All of them, in the order in which messages name them.
    const ALL: &'static [Self];

    /// As filters write it.
    fn name(self) -> &'static str;

    /// What it holds.
    fn kind(self) -> Kind;
}

/// What a field holds, and so how it compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A set of texts.
    Set,
    /// Texts by name.
    Map,
    /// A point in time, or none.
    Time,
    /// One of these.
    Choice(&'static [&'static str]),
}

/// What is asked of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition<F> {
    /// The field.
    pub field: F,
    /// What it must be; of the field's kind.
    pub test: Test,
}

/// What a field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// The text passes.
    Text(TextTest),
    /// Any element of the set passes.
    Element(TextTest),
    /// The map has a text of that name, which passes.
    Entry(Box<str>, TextTest),
    /// The map is not empty.
    AnyEntry,
    /// The time passes.
    Time(TimeTest),
    /// It is the one at this place of [`Kind::Choice`].
    Choice(usize),
}

/// What a text must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextTest {
    /// Anything, also empty.
    Present,
    /// Not empty.
    NotEmpty,
    /// This.
    Is(Box<str>),
    /// It begins so.
    Begins(Box<str>),
    /// It ends so.
    Ends(Box<str>),
    /// This is somewhere in it.
    Contains(Box<str>),
    /// This is somewhere in it, in any case; it is in lower case here.
    ContainsAnyCase(Box<str>),
}

/// What a time must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeTest {
    /// There is one.
    Present,
    /// This one.
    Is(Timestamp),
    /// Earlier than this.
    Before(Timestamp),
    /// This or earlier.
    Until(Timestamp),
    /// Later than this.
    After(Timestamp),
    /// This or later.
    From(Timestamp),
}

impl<F: Field> Condition<F> {
    /// What a comparison asks, where `!=` asks the same as `=`.
    pub(super) fn of(comparison: &Comparison<'_>, now: Timestamp) -> Result<Self, Invalid> {
        const LIKE_TEXT: [Operator; 3] = [Operator::Equal, Operator::NotEqual, Operator::Has];
        let Some((name, sub)) = comparison.path.split_first() else {
            return Err(Invalid::new("a comparison names a field"));
        };
        let field = F::ALL
            .iter()
            .copied()
            .find(|field| field.name() == &**name)
            .ok_or_else(|| {
                let known: Vec<_> = F::ALL.iter().map(|field| field.name()).collect();
                Invalid::owned(format!(
                    "there is no field '{}'; the fields are {}",
                    shown(name),
                    known.join(", ")
                ))
            })?;
        if !sub.is_empty() && field.kind() != Kind::Map {
            return Err(Invalid::owned(format!("{} has no parts", field.name())));
        }
        let Comparison {
            operator, value, ..
        } = comparison;
        let takes = |operators: &[Operator]| {
            if operators.contains(operator) {
                return Ok(());
            }
            let signs: Vec<_> = operators.iter().map(|operator| operator.sign()).collect();
            Err(Invalid::owned(format!(
                "{} does not take '{}', only {}",
                field.name(),
                operator.sign(),
                signs.join(" ")
            )))
        };
        let test = match field.kind() {
            Kind::Text => {
                takes(&LIKE_TEXT)?;
                Test::Text(TextTest::of(*operator, value, TextTest::NotEmpty))
            }
            Kind::Set => {
                takes(&LIKE_TEXT)?;
                // "Has" is about the element here, not about a part of its name.
                let star = TextTest::Is("*".into());
                Test::Element(TextTest::of(Operator::Equal, value, star))
            }
            Kind::Map if sub.is_empty() => {
                takes(&[Operator::Has])?;
                if value.is_star() {
                    Test::AnyEntry
                } else {
                    Test::Entry(value.text.clone().into(), TextTest::Present)
                }
            }
            Kind::Map => {
                takes(&LIKE_TEXT)?;
                let test = TextTest::of(*operator, value, TextTest::Present);
                Test::Entry(sub.join(".").into(), test)
            }
            Kind::Time => Test::Time(TimeTest::of(*operator, value, now)?),
            Kind::Choice(names) => {
                takes(&[Operator::Equal, Operator::NotEqual])?;
                let place = names.iter().position(|name| *name == value.text);
                Test::Choice(place.ok_or_else(|| {
                    Invalid::owned(format!(
                        "{} is never '{}', only {}",
                        field.name(),
                        shown(&value.text),
                        names.join(", ")
                    ))
                })?)
            }
        };
        Ok(Self { field, test })
    }
}

impl TextTest {
    /// `star` is what `*` alone asks.
    fn of(operator: Operator, value: &Value<'_>, star: Self) -> Self {
        let text = &*value.text;
        if value.is_star() {
            return star;
        }
        if operator == Operator::Has {
            return Self::ContainsAnyCase(text.to_lowercase().into());
        }
        match (value.star_first, value.star_last) {
            (false, false) => Self::Is(text.into()),
            (false, true) => Self::Begins(text[..text.len() - 1].into()),
            (true, false) => Self::Ends(text[1..].into()),
            (true, true) => Self::Contains(text[1..text.len() - 1].into()),
        }
    }

    /// True if the text passes. Allocates nothing, unless case is to make no difference beyond ASCII.
    #[must_use]
    pub fn passes(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::NotEmpty => !text.is_empty(),
            Self::Is(whole) => text == &**whole,
            Self::Begins(start) => text.starts_with(&**start),
            Self::Ends(end) => text.ends_with(&**end),
            Self::Contains(part) => contains(text, part),
            Self::ContainsAnyCase(part) => contains_any_case(text, part),
        }
    }
}

/// For short texts, which most are, faster than what the library prepares for long ones.
fn contains(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    let Some((first, rest)) = part.split_first() else {
        return true;
    };
    text.windows(part.len())
        .any(|window| window[0] == *first && window[1..] == *rest)
}

/// `part` is in lower case.
fn contains_any_case(text: &str, part: &str) -> bool {
    let Some(first) = part.bytes().next() else {
        return true;
    };
    if part.is_ascii() && text.is_ascii() {
        let part = part.as_bytes();
        return text.as_bytes().windows(part.len()).any(|window| {
            window[0].to_ascii_lowercase() == first && window.eq_ignore_ascii_case(part)
        });
    }
    // Whoever asks chooses both lengths, so the time must not be their product: the library's search takes their sum.
    let lower: String = text.chars().flat_map(char::to_lowercase).collect();
    lower.contains(part)
}

impl TimeTest {
    fn of(operator: Operator, value: &Value<'_>, now: Timestamp) -> Result<Self, Invalid> {
        let time = || times::read(&value.text, now);
        Ok(match operator {
            Operator::Has if value.is_star() => Self::Present,
            Operator::Has => return Err(Invalid::new("after a time's ':' stands only '*'")),
            Operator::Equal | Operator::NotEqual => Self::Is(time()?),
            Operator::Less => Self::Before(time()?),
            Operator::LessOrEqual => Self::Until(time()?),
            Operator::Greater => Self::After(time()?),
            Operator::GreaterOrEqual => Self::From(time()?),
        })
    }

    /// True if the time passes. Where there is none, nothing does.
    #[must_use]
    pub fn passes(self, time: Option<Timestamp>) -> bool {
        let Some(time) = time else { return false };
        match self {
            Self::Present => true,
            Self::Is(this) => time == this,
            Self::Before(this) => time < this,
            Self::Until(this) => time <= this,
            Self::After(this) => time > this,
            Self::From(this) => time >= this,
        }
    }
}
