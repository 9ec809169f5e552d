//! Turning pages: which token goes out next, where a listing is cut, and what the next call must be told.
//!
//! A machine: answers in, decisions out. Tokens that it makes are those of botocore, so that one made here can be given
//! to `aws`, and the other way round.

use super::value::{Json, Map, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// Pages of one listing at most.
pub const PAGES_MAX: usize = 100_000;
/// The member that holds a token, in requests and answers alike.
pub const NEXT_TOKEN: &str = "NextToken";
const CUT: &str = "boto_truncate_amount";

/// Why a listing cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PageFault {
    /// The server gives the token that it was given.
    #[error("The same next token was received twice: {{'NextToken': {0}}}")]
    SameToken(String),
    /// The server never comes to an end.
    #[error("The listing did not end after {PAGES_MAX} pages")]
    TooMany,
    /// The token that was given to start with has parts that fit nothing.
    #[error("Bad starting token: {0}")]
    BadToken(String),
}

/// Where a listing stands.
#[derive(Clone, Debug)]
pub struct Pager {
    /// What the next request carries.
    token: Option<Value>,
    /// Items at the start of the first page that an earlier listing has shown.
    skip: i128,
    resumed: bool,
    first: bool,
    max_items: Option<i128>,
    seen: i128,
    pages: usize,
    previous: Option<Value>,
    resume: Option<String>,
}

impl Pager {
    /// A listing of at most `max_items`, from its start or from where `starting_token` says.
    ///
    /// # Errors
    /// When the token has the form of botocore's old ones but other parts.
    pub fn new(starting_token: Option<&str>, max_items: Option<i128>) -> Result<Pager, PageFault> {
        let (token, skip) = match starting_token {
            None => (None, 0),
            Some(text) => starting(text)?,
        };
        let resumed = starting_token.is_some();
        Ok(Pager { token, skip, resumed, first: true, max_items, seen: 0, pages: 0, previous: None, resume: None })
    }

    /// Puts the token of the next page into a request.
    pub fn prepare(&self, request: &mut Map) {
        match &self.token {
            Some(token) => {
                request.insert(NEXT_TOKEN.to_owned(), token.clone());
            }
            None if self.first && !self.resumed => {}
            None => {
                request.shift_remove(NEXT_TOKEN);
            }
        }
    }

    /// Takes an answer, cuts off what must not be shown of its member `items`, and says whether to ask for another page.
    ///
    /// # Errors
    /// When the server would keep the client here for ever.
    pub fn take(&mut self, answer: &mut Map, items: &str) -> Result<bool, PageFault> {
        let mut skipped = 0;
        if std::mem::take(&mut self.first) && self.resumed {
            skipped = self.skip;
            let kept = answer.get(items).and_then(Value::as_list).map_or(Value::Null, |list| {
                let from = if skipped < 0 { length(list) + skipped } else { skipped };
                Value::List(list.iter().skip(index(from)).cloned().collect())
            });
            answer.insert(items.to_owned(), kept);
        }
        let count = answer.get(items).and_then(Value::as_list).map_or(0, length);
        if let Some(max) = self.max_items {
            let excess = self.seen + count - max;
            if excess > 0 {
                let keep = count - excess;
                let shown = if keep < 0 { (count + keep).max(0) } else { keep };
                if let Some(Value::List(list)) = answer.get_mut(items) {
                    list.truncate(index(shown));
                }
                self.resume = Some(encode(self.token.clone(), Some(keep + skipped)));
                return Ok(false);
            }
        }
        self.seen += count;
        self.pages += 1;
        self.token = answer.get(NEXT_TOKEN).filter(|token| token.is_truthy()).cloned();
        let Some(token) = &self.token else { return Ok(false) };
        if self.max_items == Some(self.seen) {
            self.resume = Some(encode(Some(token.clone()), None));
            return Ok(false);
        }
        if self.previous.as_ref() == Some(token) {
            return Err(PageFault::SameToken(token.to_repr()));
        }
        if self.pages >= PAGES_MAX {
            return Err(PageFault::TooMany);
        }
        self.previous = Some(token.clone());
        Ok(true)
    }

    /// What `--starting-token` of another call must be given to go on, when this listing was cut.
    #[must_use]
    pub fn resume_token(&self) -> Option<&str> {
        self.resume.as_deref()
    }
}

fn length(list: &[Value]) -> i128 {
    list.len() as i128
}

fn index(number: i128) -> usize {
    usize::try_from(number).unwrap_or(if number < 0 { 0 } else { usize::MAX })
}

fn encode(token: Option<Value>, cut: Option<i128>) -> String {
    let token = (NEXT_TOKEN.to_owned(), token.unwrap_or(Value::Null));
    let cut = cut.map(|amount| (CUT.to_owned(), Value::Int(amount)));
    STANDARD.encode(Value::map(std::iter::once(token).chain(cut)).to_json(Json::Line))
}

/// The service's token and the items to skip. What is not of our making is the service's own.
fn starting(text: &str) -> Result<(Option<Value>, i128), PageFault> {
    if let Some(made) = made(text) {
        return Ok(made);
    }
    // The form that botocore wrote before it had base64: the token, three underscores, the items to skip.
    let mut parts: Vec<&str> = text.split("___").collect();
    let mut skip = 0;
    if let [_, last] = parts[..] {
        match last.parse() {
            Ok(number) => {
                skip = number;
                parts.pop();
            }
            Err(_) => parts = vec![text],
        }
    }
    match parts[..] {
        ["None"] => Ok((None, skip)),
        [token] => Ok((Some(Value::text(token)), skip)),
        _ => Err(PageFault::BadToken(text.to_owned())),
    }
}

fn made(text: &str) -> Option<(Option<Value>, i128)> {
    let Ok(Value::Map(members)) = Value::parse(&STANDARD.decode(text.trim()).ok()?) else { return None };
    let skip = match members.get(CUT) {
        None => 0,
        Some(Value::Int(amount)) => *amount,
        Some(_) => return None,
    };
    if members.keys().any(|key| key != NEXT_TOKEN && key != CUT) {
        return None;
    }
    let token = members.get(NEXT_TOKEN).filter(|token| **token != Value::Null).cloned();
    Some((token, skip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(from: usize, to: usize, next: Option<&str>) -> Map {
        let items = (from..to).map(|number| Value::Int(number as i128)).collect();
        let mut page = Map::new();
        page.insert("Items".to_owned(), Value::List(items));
        if let Some(next) = next {
            page.insert(NEXT_TOKEN.to_owned(), Value::text(next));
        }
        page
    }

    /// A service with `total` items in pages of `size`; its tokens are positions.
    fn listing(total: usize, size: usize, start: Option<&str>, max: Option<i128>) -> (Vec<i128>, Option<String>) {
        let mut pager = Pager::new(start, max).expect("a good token");
        let mut found = Vec::new();
        loop {
            let mut request = Map::new();
            pager.prepare(&mut request);
            let from = match request.get(NEXT_TOKEN) {
                None => 0,
                Some(token) => token.as_text().and_then(|text| text.parse().ok()).expect("a token of ours"),
            };
            let to = total.min(from + size);
            let mut answer = page(from, to, (to < total).then(|| to.to_string()).as_deref());
            let more = pager.take(&mut answer, "Items").expect("an end");
            for item in answer["Items"].as_list().expect("a list") {
                let Value::Int(number) = item else { panic!("a number") };
                found.push(*number);
            }
            if !more {
                return (found, pager.resume_token().map(str::to_owned));
            }
        }
    }

    #[test]
    fn tokens_are_botocores() {
        // Printed by aws-cli 1.46.3 and 2.9.19 for pages of two and `--max-items` 3 and 0.
        assert_eq!(
            encode(Some(Value::text("p2")), Some(1)),
            "eyJOZXh0VG9rZW4iOiAicDIiLCAiYm90b190cnVuY2F0ZV9hbW91bnQiOiAxfQ=="
        );
        assert_eq!(encode(None, Some(0)), "eyJOZXh0VG9rZW4iOiBudWxsLCAiYm90b190cnVuY2F0ZV9hbW91bnQiOiAwfQ==");
        assert_eq!(starting("bogus"), Ok((Some(Value::text("bogus")), 0)));
        assert_eq!(starting("a___b"), Ok((Some(Value::text("a___b")), 0)));
        assert_eq!(starting("a___3"), Ok((Some(Value::text("a")), 3)));
        assert_eq!(starting("None___3"), Ok((None, 3)));
        assert_eq!(starting("a___b___3"), Err(PageFault::BadToken("a___b___3".to_owned())));
        assert_eq!(starting(""), Ok((Some(Value::text("")), 0)));
    }

    #[test]
    fn the_same_token_twice_ends_the_listing() {
        let mut pager = Pager::new(None, None).expect("no token");
        assert_eq!(pager.take(&mut page(0, 1, Some("t")), "Items"), Ok(true));
        let fault = pager.take(&mut page(1, 2, Some("t")), "Items").expect_err("the same again");
        assert_eq!(fault.to_string(), "The same next token was received twice: {'NextToken': 't'}");
    }

    #[test]
    fn a_server_without_an_end_is_left() {
        let mut pager = Pager::new(None, None).expect("no token");
        let mut answered = 0;
        let fault = loop {
            answered += 1;
            match pager.take(&mut page(0, 0, Some(&answered.to_string())), "Items") {
                Ok(more) => assert!(more),
                Err(fault) => break fault,
            }
        };
        assert_eq!((fault, answered), (PageFault::TooMany, PAGES_MAX));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_parts_join_to_the_whole(total in 0..40usize, size in 1..7usize, max in 1..9i128) {
            let (whole, token) = listing(total, size, None, None);
            prop_assert_eq!(token, None);
            prop_assert_eq!(whole.len(), total);
            let (mut joined, mut token) = listing(total, size, None, Some(max));
            while let Some(resume) = token {
                let (part, next) = listing(total, size, Some(&resume), Some(max));
                prop_assert!(part.len() as i128 <= max && (!part.is_empty() || next.is_none()));
                joined.extend(part);
                token = next;
            }
            prop_assert_eq!(joined, whole);
        }

        #[test]
        fn no_token_is_too_strange(token in any::<String>()) {
            let _either = Pager::new(Some(&token), Some(1));
        }
    }
}
