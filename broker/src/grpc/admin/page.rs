//! Pages of a list.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

use super::super::check::Faults;
use crate::registry::AuditId;

const DEFAULT_SIZE: usize = 50;
const LARGEST_SIZE: usize = 1000;

/// Which part of a list is asked for.
pub(super) struct Page {
    list: &'static str,
    /// How many items at most.
    pub(super) size: usize,
    /// The last item of the page before.
    after: Option<String>,
}

impl Page {
    /// Reads a size and a token, which only goes on with the list that gave it out.
    pub(super) fn read(list: &'static str, size: i32, token: &str, faults: &mut Faults) -> Self {
        let size = usize::try_from(size).unwrap_or_else(|_| {
            faults.add("page_size", "is negative; write 1 to 1000, or leave it out for 50");
            0
        });
        let size = if size == 0 { DEFAULT_SIZE } else { size.min(LARGEST_SIZE) };
        let decoded = || {
            let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
            Some(text.strip_prefix(list)?.strip_prefix(':')?.to_owned())
        };
        let after = if token.is_empty() { None } else { decoded() };
        if after.is_none() && !token.is_empty() {
            faults
                .add("page_token", "is not one of this list; pass on the next_page_token of the page before");
        }
        Self { list, size, after }
    }

    /// The page of a list that is sorted by `name`, and the token of the next one.
    pub(super) fn of<T>(&self, mut items: Vec<T>, name: impl Fn(&T) -> String) -> (Vec<T>, String) {
        items.sort_by_key(&name);
        if let Some(after) = &self.after {
            items.retain(|item| name(item) > *after);
        }
        let more = items.len() > self.size;
        items.truncate(self.size);
        let last = items.last().filter(|_| more).map(|last| self.token_after(&name(last)));
        (items, last.unwrap_or_default())
    }

    /// The token of the page after an item.
    pub(super) fn token_after(&self, item: &str) -> String {
        BASE64.encode(format!("{}:{item}", self.list))
    }

    /// The record that the page begins after.
    pub(super) fn after_record(&self, faults: &mut Faults) -> Option<AuditId> {
        let parsed = self.after.as_ref().map(|after| after.parse());
        if matches!(parsed, Some(Err(_))) {
            faults
                .add("page_token", "is not one of this list; pass on the next_page_token of the page before");
        }
        parsed.and_then(Result::ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_every_item_once_in_order() {
        let items = || ["d", "a", "c", "b", "e"].map(str::to_owned).to_vec();
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let mut faults = Faults::default();
            let page = Page::read("letters", 2, &token, &mut faults);
            assert!(faults.into_result().is_ok());
            let (found, next) = page.of(items(), String::clone);
            seen.extend(found);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_token_of_another_list_or_none_at_all_is_refused() {
        let token = Page::read("letters", 2, "", &mut Faults::default()).token_after("a");
        for (list, token) in [("numbers", token.as_str()), ("letters", "!"), ("letters", "YWJj")] {
            let mut faults = Faults::default();
            Page::read(list, -1, token, &mut faults);
            let message = faults.into_result().unwrap_err().message().to_owned();
            assert!(message.contains("page_token") && message.contains("page_size"), "{message}");
        }
    }
}
