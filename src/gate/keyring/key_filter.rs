//! Filters on keys: what they name, and how a row of the directory is asked.

use super::directory::{Letters, Listing, Moment, Row, Token};
use crate::domain::{
    Invalid, base62,
    filter::{Condition, Field, Filter, Kind, Test, TextTest, TimeTest},
    id::KeyId,
    time::Timestamp,
};

/// A filter on keys, in the language of [`filter`](crate::domain::filter).
///
/// Fields: `state` (ACTIVE, DISABLED, EXPIRED, ARCHIVED); the texts `owner`, `display_name`, `description` and `key_id`;
/// `permission`, the set of names that the key holds, where `*` is a name like another: a key that holds it matches
/// `permission = "*"` only; the map `labels`; the times `create_time`, `update_time`, `expire_time` and
/// `secret_create_time`, which is when the newest secret was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFilter {
    filter: Filter<Condition<KeyField>>,
    /// What EXPIRED is judged at.
    now: Timestamp,
}

/// A field of a key that filters can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyField {
    State,
    Owner,
    Permission,
    Labels,
    CreateTime,
    UpdateTime,
    ExpireTime,
    SecretCreateTime,
    DisplayName,
    Description,
    KeyId,
}

/// In the order of `state_of`.
const STATES: &[&str] = &["ACTIVE", "DISABLED", "EXPIRED", "ARCHIVED"];

impl KeyFilter {
    /// Reads a filter. Relative times count from `now`, and states are those at `now`.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, Invalid> {
        let filter = Filter::parse(text, now)?;
        Ok(Self { filter, now })
    }

    /// What passes every key.
    #[must_use]
    pub fn everything(now: Timestamp) -> Self {
        Self {
            filter: Filter::everything(),
            now,
        }
    }

    /// True if nothing is asked.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.filter.is_everything()
    }

    /// The filter as rows are asked.
    pub(super) fn on_rows(&self) -> RowFilter<'_> {
        let mut shared = Vec::new();
        let mut remember = |test| {
            shared.push(Shared {
                test,
                known: Vec::new(),
            });
            shared.len() - 1
        };
        let filter = self.filter.map(|condition| match &condition.test {
            Test::Choice(state) => Ask::State(*state),
            Test::Time(test) => Ask::Time(condition.field, MomentTest::of(*test)),
            Test::Element(test) => Ask::Shared(remember(SharedTest::Permission(test))),
            Test::AnyEntry | Test::Entry(..) => {
                Ask::Shared(remember(SharedTest::Labels(&condition.test)))
            }
            Test::Text(test) => match condition.field {
                KeyField::Owner => Ask::Shared(remember(SharedTest::Owner(test))),
                KeyField::KeyId => Ask::Id(IdTest::of(test)),
                field => Ask::Text(field, test, letters(test)),
            },
        });
        RowFilter {
            filter,
            shared,
            now: self.now.into(),
            reused: [0; 3],
        }
    }
}

/// A filter with what it found out about the values that rows share, each of which is asked once.
pub(super) struct RowFilter<'f> {
    filter: Filter<Ask<'f>>,
    shared: Vec<Shared<'f>>,
    now: Moment,
    reused: [u64; 3],
}

/// What is asked of a row.
enum Ask<'f> {
    /// The place in [`STATES`].
    State(usize),
    Time(KeyField, MomentTest),
    /// The text, which has these letters if it passes.
    Text(KeyField, &'f TextTest, Letters),
    Id(IdTest<'f>),
    /// The place among the shared.
    Shared(usize),
}

/// A question about a value that rows share.
struct Shared<'f> {
    test: SharedTest<'f>,
    /// The answers by token.
    known: Vec<Option<bool>>,
}

#[derive(Clone, Copy)]
enum SharedTest<'f> {
    Owner(&'f TextTest),
    Permission(&'f TextTest),
    Labels(&'f Test),
}

impl RowFilter<'_> {
    /// To be called whenever the listing may have changed since the last row.
    pub(super) fn begin(&mut self, listing: &Listing) {
        let reused = [
            listing.owners.reused(),
            listing.permissions.reused(),
            listing.labels.reused(),
        ];
        if self.reused != reused {
            self.reused = reused;
            // Some token means another value now.
            for shared in &mut self.shared {
                shared.known.clear();
            }
        }
    }

    /// True if the row passes.
    pub(super) fn passes(&mut self, listing: &Listing, row: &Row) -> bool {
        let (shared, now) = (&mut self.shared, self.now);
        self.filter.passes(|ask| match ask {
            Ask::State(state) => state_of(row, now) == *state,
            Ask::Time(field, test) => test.passes(match field {
                KeyField::CreateTime => row.position.create_time,
                KeyField::UpdateTime => row.update_time,
                KeyField::SecretCreateTime => row.secret_create_time,
                _ => row.expire_time,
            }),
            Ask::Text(field, test, letters) => {
                letters.are_among(row.letters)
                    && test.passes(match field {
                        KeyField::DisplayName => row.display_name(),
                        _ => row.description(),
                    })
            }
            Ask::Id(test) => test.passes(row.position.id()),
            Ask::Shared(place) => shared[*place].passes(listing, row),
        })
    }
}

/// The place in [`STATES`], as [`Key::state`](crate::domain::key::Key::state) decides.
fn state_of(row: &Row, now: Moment) -> usize {
    match row {
        _ if row.archived => 3,
        _ if row.disabled => 1,
        // The end is exclusive. No end is later than any time.
        _ if now >= row.expire_time => 2,
        _ => 0,
    }
}

impl Shared<'_> {
    fn passes(&mut self, listing: &Listing, row: &Row) -> bool {
        let token = match self.test {
            SharedTest::Owner(_) => row.owner,
            SharedTest::Permission(_) => row.permissions,
            SharedTest::Labels(_) => row.labels,
        };
        if let Some(Some(known)) = self.known.get(token.index()) {
            return *known;
        }
        let passes = self.test.passes(listing, token);
        if self.known.len() <= token.index() {
            self.known.resize(token.index() + 1, None);
        }
        self.known[token.index()] = Some(passes);
        passes
    }
}

impl SharedTest<'_> {
    fn passes(self, listing: &Listing, token: Token) -> bool {
        match self {
            Self::Owner(test) => test.passes(listing.owners.get(token)),
            Self::Permission(test) => listing
                .permissions
                .get(token)
                .iter()
                .any(|name| test.passes(name)),
            Self::Labels(Test::Entry(name, test)) => listing
                .labels
                .get(token)
                .get(name)
                .is_some_and(|value| test.passes(value)),
            Self::Labels(_) => !listing.labels.get(token).is_empty(),
        }
    }
}

/// The letters that a text has if it passes.
fn letters(test: &TextTest) -> Letters {
    match test {
        TextTest::Present | TextTest::NotEmpty => Letters::asked(""),
        TextTest::Is(part)
        | TextTest::Begins(part)
        | TextTest::Ends(part)
        | TextTest::Contains(part)
        | TextTest::ContainsAnyCase(part) => Letters::asked(part),
    }
}

/// A [`TimeTest`] on moments.
#[derive(Clone, Copy)]
enum MomentTest {
    Present,
    Is(Moment),
    Before(Moment),
    Until(Moment),
    After(Moment),
    From(Moment),
}

impl MomentTest {
    fn of(test: TimeTest) -> Self {
        match test {
            TimeTest::Present => Self::Present,
            TimeTest::Is(time) => Self::Is(time.into()),
            TimeTest::Before(time) => Self::Before(time.into()),
            TimeTest::Until(time) => Self::Until(time.into()),
            TimeTest::After(time) => Self::After(time.into()),
            TimeTest::From(time) => Self::From(time.into()),
        }
    }

    fn passes(self, moment: Moment) -> bool {
        moment != Moment::NONE
            && match self {
                Self::Present => true,
                Self::Is(this) => moment == this,
                Self::Before(this) => moment < this,
                Self::Until(this) => moment <= this,
                Self::After(this) => moment > this,
                Self::From(this) => moment >= this,
            }
    }
}

/// What an id must be. Most tests are about its bits, since to write it out takes time.
enum IdTest<'f> {
    /// From the one to the other.
    Within(KeyId, KeyId),
    /// No id passes.
    Nothing,
    /// Its 22 digits pass.
    Text(&'f TextTest),
}

impl<'f> IdTest<'f> {
    fn of(test: &'f TextTest) -> Self {
        match test {
            TextTest::Is(id) => Self::range(id_range(id).filter(|_| id.len() == WIDTH)),
            TextTest::Begins(start) => Self::range(id_range(start)),
            _ => Self::Text(test),
        }
    }

    fn range(range: Option<(KeyId, KeyId)>) -> Self {
        range.map_or(Self::Nothing, |(least, most)| Self::Within(least, most))
    }

    fn passes(&self, id: KeyId) -> bool {
        match self {
            Self::Within(least, most) => (*least..=*most).contains(&id),
            Self::Nothing => false,
            Self::Text(test) => {
                std::str::from_utf8(&id.to_text()).is_ok_and(|text| test.passes(text))
            }
        }
    }
}

const WIDTH: usize = base62::WIDTH_U128;

/// The least and the greatest id that begins so; `None`: none does. Ids are of one width, so their order is that of their text.
pub(super) fn id_range(prefix: &str) -> Option<(KeyId, KeyId)> {
    let padded = |digit: u8| {
        let mut text = [digit; WIDTH];
        text.get_mut(..prefix.len())?
            .copy_from_slice(prefix.as_bytes());
        Some(text)
    };
    let least = KeyId::parse(&padded(base62::digit(0))?)?;
    // Past the greatest id there are texts that are no id.
    let most = KeyId::parse(&padded(base62::digit(61))?).unwrap_or(KeyId::from_bits(u128::MAX));
    Some((least, most))
}

impl Field for KeyField {
    const ALL: &'static [Self] = &[
        Self::State,
        Self::Owner,
        Self::Permission,
        Self::Labels,
        Self::CreateTime,
        Self::UpdateTime,
        Self::ExpireTime,
        Self::SecretCreateTime,
        Self::DisplayName,
        Self::Description,
        Self::KeyId,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Owner => "owner",
            Self::Permission => "permission",
            Self::Labels => "labels",
            Self::CreateTime => "create_time",
            Self::UpdateTime => "update_time",
            Self::ExpireTime => "expire_time",
            Self::SecretCreateTime => "secret_create_time",
            Self::DisplayName => "display_name",
            Self::Description => "description",
            Self::KeyId => "key_id",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::State => Kind::Choice(STATES),
            Self::Owner | Self::DisplayName | Self::Description | Self::KeyId => Kind::Text,
            Self::Permission => Kind::Set,
            Self::Labels => Kind::Map,
            Self::CreateTime | Self::UpdateTime | Self::ExpireTime | Self::SecretCreateTime => {
                Kind::Time
            }
        }
    }
}
