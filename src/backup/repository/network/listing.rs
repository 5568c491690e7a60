//! A page of a list without the keys that the client cannot name: one of them would make it drop the whole list.
//!
//! Whoever may write to a bucket may give an object such a key; idkeep never does, so nothing of its own is lost.

use bytes::Bytes;
use http::{Method, Response};
use object_store::client::HttpResponse;
use object_store::path::Path;
use url::Url;

use super::refusal::whole;
use crate::log::printable;

/// The most of a page that is read: 5000 names of 1 KiB, each character written in its longest form.
const PAGE: usize = 64 << 20;

/// Keys that are named in one warning.
const NAMED: usize = 3;

/// An entry of a page, and where in it the name stands: as S3 and Google write it, and as Azure does.
const ENTRIES: [(&str, &str); 4] =
    [("Contents", "Key"), ("CommonPrefixes", "Prefix"), ("Blob", "Name"), ("BlobPrefix", "Name")];

/// Whether a page of a list is asked for.
pub fn is_asked_for(method: &Method, url: &Url) -> bool {
    let mut query = url.query_pairs();
    *method == Method::GET && query.any(|pair| matches!((&*pair.0, &*pair.1), ("list-type", "2") | ("comp", "list")))
}

/// The page without them; nothing where it breaks off.
pub async fn read(answer: Response<reqwest::Body>) -> Option<HttpResponse> {
    let (parts, body) = answer.into_parts();
    let page = whole(body, PAGE).await?;
    let page = match std::str::from_utf8(&page) {
        Ok(text) => nameable(text).map_or_else(|| Bytes::from(page.clone()), Bytes::from),
        Err(_) => Bytes::from(page),
    };
    Some(HttpResponse::from_parts(parts, page.into()))
}

/// What is left of a page; nothing where all of it is.
fn nameable(page: &str) -> Option<String> {
    let (mut left, mut rest) = (String::new(), page);
    let mut taken: Vec<String> = Vec::new();
    while let Some((start, end, key)) = next(rest) {
        if Path::parse(&key).is_ok() {
            left.push_str(&rest[..end]);
        } else {
            left.push_str(&rest[..start]);
            taken.push(key);
        }
        rest = &rest[end..];
    }
    if taken.is_empty() {
        return None;
    }
    left.push_str(rest);
    let keys = taken.iter().take(NAMED).map(|key| printable(key)).collect::<Vec<_>>().join(", ");
    let count = taken.len();
    tracing::warn!(keys, count, "keys that idkeep never writes are passed over: who else writes to this bucket?");
    Some(left)
}

/// The next entry: where it begins and ends, and its name.
fn next(page: &str) -> Option<(usize, usize, String)> {
    let is_entry = |at: usize| {
        let is_it = |entry: &str| page[at + 1..].strip_prefix(entry).is_some_and(|rest| rest.starts_with('>'));
        ENTRIES.iter().find(|(entry, _)| is_it(entry)).map(|(entry, name)| (at, *entry, *name))
    };
    let (start, entry, name) = page.match_indices('<').find_map(|(at, _)| is_entry(at))?;
    let closing = format!("</{entry}>");
    let end = start + page[start..].find(&closing)? + closing.len();
    let (_, inside) = page[start..end].split_once(&format!("<{name}"))?;
    let (_, text) = inside.split_once('>')?;
    let (text, _) = text.split_once(&format!("</{name}>"))?;
    Some((start, end, unescaped(text)))
}

/// The text that stands for this in a document; what is no reference stays as it is.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let named = piece.split_once(';').and_then(|(name, rest)| Some((character(name)?, rest)));
        let (character, rest) = named.unwrap_or(('&', piece));
        plain.push(character);
        plain.push_str(rest);
    }
    plain
}

fn character(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(number.ok()?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str]) -> String {
        let entries = keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"));
        format!("<List><Name>b</Name>{}<IsTruncated>false</IsTruncated></List>", entries.collect::<String>())
    }

    #[test]
    fn only_keys_that_cannot_be_named_are_left_out() {
        let good = ["p/node/a", "p/node/a&amp;b", "p/node/..a/...", "p/node/&lt;Contents&gt;", "p/node/ü"];
        assert_eq!(nameable(&page(&good)), None);
        for bad in
            ["p/node//a", "p/node/../a", "p/./a", "p/node/&#x2e;&#46;/a", "p&#x2F;&#47;a", "p/a&#7;", "p/a&#xA;b"]
        {
            assert_eq!(nameable(&page(&["p/1", bad, "p/2", bad])).unwrap(), page(&["p/1", "p/2"]), "{bad}");
        }
        assert_eq!(nameable(&page(&["//"])).unwrap(), page(&[]));
    }

    #[test]
    fn folders_and_the_pages_of_azure_are_looked_through_too() {
        let s3 = |prefixes: &str| format!("<L><Prefix>p//</Prefix>{prefixes}</L>");
        let prefix = |key: &str| format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>");
        let both = s3(&(prefix("p/node//") + &prefix("p/node/a/")));
        assert_eq!(nameable(&both).unwrap(), s3(&prefix("p/node/a/")));
        let azure = "<Blobs><Blob><Name>p//a</Name><Properties/></Blob><BlobPrefix><Name>p/../</Name></BlobPrefix>\
            <Blob><Name>p/a</Name></Blob></Blobs>";
        assert_eq!(nameable(azure).unwrap(), "<Blobs><Blob><Name>p/a</Name></Blob></Blobs>");
    }

    #[test]
    fn what_is_no_such_page_stays_as_it_is() {
        for text in ["", "<Contents>", "<Contents><Key>a//b", "<Contents><Key/></Contents>", "{\"Contents\": 1}"] {
            assert_eq!(nameable(text), None, "{text}");
        }
    }

    #[test]
    fn pages_are_known_by_what_was_asked() {
        let asked = |method, url: &str| is_asked_for(&method, &url.parse().unwrap());
        assert!(asked(Method::GET, "https://h/b?list-type=2&prefix=p"));
        assert!(asked(Method::GET, "https://h/c?restype=container&comp=list"));
        assert!(!asked(Method::GET, "https://h/b/list-type=2?x-id=GetObject"));
        assert!(!asked(Method::PUT, "https://h/b?comp=list"));
    }
}
