//! Lists that come in pages: `limit` and `after` of a request, `next` of an answer.

use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::Problem;
use super::records::LIST_LIMIT_MAX;

/// Where a page begins, and how long it may be.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// From 1 to 1,000; 1,000 unless told. A page may have fewer rows: only one without `next` is the last.
    limit: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
}

impl Paging {
    /// How many rows are asked for.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        self.limit.as_deref().map_or(Ok(LIST_LIMIT_MAX), limit)
    }

    /// Where the page before ended, by what `read` makes of it; `None` for the first.
    pub(crate) fn after<T>(&self, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        let told = || Problem::bad_request("after is not the `next` of a page of this list; leave it out to begin.");
        self.after.as_deref().map(|after| read(after).ok_or_else(told)).transpose()
    }
}

/// Reads a `limit`.
pub(crate) fn limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|n| (1..=LIST_LIMIT_MAX).contains(n));
    limit.ok_or_else(|| Problem::bad_request(format!("limit must be a number from 1 to {LIST_LIMIT_MAX}.")))
}
