//! The store on the local AWS: keys with special characters, moves, uploads, versions and leases.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use jiff::Timestamp;
use spillway_core::error::ErrorKind;
use spillway_core::object::{ObjectRef, ObjectVersion, SourceId};
use spillway_core::store::Store;
use spillway_core::store::lease::{self, Lease};
use spillway_core::store::moves::{CopyLimits, ObjectDisposition};
use spillway_core::store::write::{Created, Deleted};
use spillway_test_env::cloud::{Account, Cloud};

/// Keys that are often encoded twice or not at all.
const HOSTILE_KEYS: &[&str] = &[
    "a b.csv",
    "a+b.csv",
    "a%2Bb.csv",
    "100%.csv",
    "%",
    "%zz%20.csv",
    "year=2026/month=11/a.csv",
    "12:30.csv",
    "it's \"quoted\".csv",
    "back\\slash.csv",
    "../up/../..",
    "./here.csv",
    "two//slashes///.csv",
    "/leading",
    "trailing/",
    "what?versionId=x&y#z.csv",
    "caf\u{e9}.csv",
    "cafe\u{301}.csv",
    "\u{1f600}\u{1f3fd}.csv",
    "tab\there.csv",
    "a;b,c@d!e*f(g)h$i.csv",
    "~tilde_dash-dot.",
];

/// Short enough for a test, and long enough for a renewal on a busy machine.
const TTL: Duration = Duration::from_secs(3);
/// The time after which an abandoned lease has expired, including the margin for clock differences.
const EXPIRED: Duration = Duration::from_millis(3_000 + 1_000 + 300);

async fn account() -> Result<(Account, Store)> {
    let account = Cloud::shared().await?.account().await?;
    let store = store(&account).await;
    Ok((account, store))
}

async fn store(account: &Account) -> Store {
    let credentials = Credentials::new(&account.id, "test", None, None, "test account");
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://127.0.0.1:{}", account.port))
        .credentials_provider(SharedCredentialsProvider::new(credentials));
    Store::new(&config.load().await)
}

async fn source(account: &Account, store: &Store, key: &str, body: &str) -> Result<ObjectVersion> {
    account.put(key, body.to_owned()).await?;
    Ok(store.head(&ObjectRef::new(&account.bucket, key)).await?)
}

async fn read(store: &Store, source: &ObjectVersion) -> spillway_core::error::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut body = store.open(source).await?;
    while let Some(chunk) = body.next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn kind<T: std::fmt::Debug>(result: spillway_core::error::Result<T>) -> ErrorKind {
    result.expect_err("the call succeeded").kind()
}

/// Pseudorandom bytes, so that every part is different.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test]
async fn every_key_is_read_listed_and_moved() -> Result<()> {
    let (account, store) = account().await?;
    let long = "k".repeat(1_000);
    let keys: Vec<&str> = HOSTILE_KEYS.iter().copied().chain([long.as_str()]).collect();
    let mut sources = BTreeMap::new();
    for name in &keys {
        let key = format!("uploads/{name}");
        let put = account.s3.put_object().bucket(&account.bucket).key(&key).body(Bytes::from(key.clone()).into());
        put.content_type("text/csv; x=y").metadata("owner", "ann").send().await?;
        let source = store.head(&ObjectRef::new(&account.bucket, &key)).await?;
        assert_eq!(read(&store, &source).await?, key.as_bytes(), "{key}");
        sources.insert(key, source);
    }
    let mut listed = Vec::new();
    let mut pages = store.list(&account.bucket, "uploads/");
    while let Some(page) = pages.next().await? {
        listed.extend(page);
    }
    for object in &listed {
        let source = sources
            .get(&object.key)
            .with_context(|| format!("an object was listed that was not put: {}", object.key))?;
        assert_eq!((&object.etag, object.size_bytes), (&source.etag, source.size_bytes), "{}", object.key);
    }
    assert_eq!(listed.len(), keys.len());

    for (name, limits) in keys.iter().zip([CopyLimits::default(), small_parts()].into_iter().cycle()) {
        let destination = format!("processed/{name}");
        let source = &sources[&format!("uploads/{name}")];
        let moved = store.move_object_with(source, &destination, &limits).await?;
        assert_eq!(moved.source, ObjectDisposition::Deleted, "{name}");
        let copy = account.s3.get_object().bucket(&account.bucket).key(&destination).send().await?;
        assert_eq!(copy.content_type(), Some("text/csv; x=y"), "{name}");
        assert_eq!(copy.metadata().and_then(|all| all.get("owner")).map(String::as_str), Some("ann"), "{name}");
        assert_eq!(copy.body.collect().await?.to_vec(), source.object.key.as_bytes(), "{name}");
    }
    assert_eq!(account.keys("uploads/").await?, Vec::<String>::new());
    assert_eq!(account.keys("").await?.len(), keys.len());
    assert_eq!(account.open_uploads().await?, Vec::<String>::new());
    Ok(())
}

fn small_parts() -> CopyLimits {
    CopyLimits { single_max_bytes: 3, part_bytes: 4, concurrency: 3 }
}

#[tokio::test]
async fn move_can_be_repeated() -> Result<()> {
    let (account, store) = account().await?;
    for (limits, key) in [(CopyLimits::default(), "a"), (small_parts(), "b")] {
        let source = source(&account, &store, &format!("uploads/{key}"), "a,b\n1,2\n").await?;
        let destination = format!("processed/{key}");
        assert!(store.move_object_with(&source, &destination, &limits).await?.is_copied);
        let again = store.move_object_with(&source, &destination, &limits).await?;
        assert_eq!((again.is_copied, again.source), (false, ObjectDisposition::Gone));
        assert_eq!(account.get(&destination).await?, b"a,b\n1,2\n");

        // A producer uploads the same bytes again while the move is repeated. One object is left.
        account.put(&source.object.key, "a,b\n1,2\n").await?;
        let third = store.move_object_with(&source, &destination, &limits).await?;
        assert_eq!((third.is_copied, third.source), (false, ObjectDisposition::Deleted));
    }
    assert_eq!(account.keys("").await?, ["processed/a", "processed/b"]);
    Ok(())
}

#[tokio::test]
async fn move_overwrites_nothing() -> Result<()> {
    let (account, store) = account().await?;
    let source = source(&account, &store, "uploads/a", "ours").await?;
    account.put("processed/a", "theirs").await?;
    // MiniStack ignores the condition with which a store copies an object that it has read, so a new store moves it.
    let mover = self::store(&account).await;
    assert_eq!(kind(mover.move_object(&source, "processed/a").await), ErrorKind::DestinationTaken);
    assert_eq!(account.get("uploads/a").await?, b"ours");
    assert_eq!(account.get("processed/a").await?, b"theirs");
    assert_eq!(kind(store.move_object(&source, "uploads/a").await), ErrorKind::Internal);
    // The source is deleted, so only its id in the metadata can tell whether an object of the same size is its copy.
    account.put("processed/a", "them").await?;
    assert_eq!(store.delete_version(&source).await?, ObjectDisposition::Deleted);
    let mover = self::store(&account).await;
    assert_eq!(kind(mover.move_object(&source, "processed/a").await), ErrorKind::DestinationTaken);
    Ok(())
}

#[tokio::test]
async fn move_keeps_newer_object() -> Result<()> {
    let (account, store) = account().await?;
    let old = source(&account, &store, "uploads/a", "old").await?;
    account.put("uploads/a", "new").await?;
    assert_eq!(kind(store.move_object(&old, "processed/a").await), ErrorKind::SourceChanged);
    assert_eq!(kind(store.move_object_with(&old, "processed/a", &small_parts()).await), ErrorKind::SourceChanged);
    assert_eq!(kind(read(&store, &old).await), ErrorKind::SourceChanged);
    assert_eq!(account.keys("").await?, ["uploads/a"]);

    // An object that is overwritten after the copy is not deleted, and the copy is kept.
    let new = store.head(&ObjectRef::new(&account.bucket, "uploads/a")).await?;
    store.move_object(&new, "processed/a").await?;
    account.put("uploads/a", "newest").await?;
    assert_eq!(store.move_object(&new, "processed/a").await?.source, ObjectDisposition::Replaced);
    assert_eq!(account.get("uploads/a").await?, b"newest");
    assert_eq!(account.get("processed/a").await?, b"new");
    Ok(())
}

#[tokio::test]
async fn large_object_moves_in_parts() -> Result<()> {
    let (account, store) = account().await?;
    let bytes = noise(23 * 1024 * 1024 + 7);
    account.put("uploads/large", bytes.clone()).await?;
    let source = store.head(&ObjectRef::new(&account.bucket, "uploads/large")).await?;
    let part_bytes = 5 * 1024 * 1024;
    let limits = CopyLimits { single_max_bytes: part_bytes, part_bytes, concurrency: 3 };
    assert_eq!(store.move_object_with(&source, "processed/large", &limits).await?.source, ObjectDisposition::Deleted);
    assert!(account.get("processed/large").await? == bytes, "the copy has other bytes");
    assert!(account.list("processed/").await?[0].etag.ends_with("-5"), "the object was not copied in five parts");
    assert_eq!(account.open_uploads().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn move_deletes_only_the_copied_version() -> Result<()> {
    let (account, store) = account().await?;
    account.keep_versions().await?;
    let first = source(&account, &store, "uploads/a", "first").await?;
    let second = source(&account, &store, "uploads/a", "second").await?;
    assert_ne!(first.id, second.id);
    assert!(first.object.version_id.is_some());

    // The first version can still be read after the second was written.
    assert_eq!(read(&store, &first).await?, b"first");
    store.move_object(&first, "processed/first").await?;
    assert_eq!(account.get("uploads/a").await?, b"second");
    assert_eq!(kind(store.head(&first.object).await), ErrorKind::SourceMissing);
    let same = store.head(&ObjectRef::new(&account.bucket, "uploads/a")).await?;
    assert_eq!(same, second);

    store.move_object(&second, "processed/second").await?;
    assert_eq!(store.move_object(&second, "processed/second").await?.source, ObjectDisposition::Gone);
    assert_eq!(account.keys("").await?, ["processed/first", "processed/second"]);
    assert_eq!(kind(store.head(&ObjectRef::new(&account.bucket, "uploads/a")).await), ErrorKind::SourceMissing);
    Ok(())
}

#[tokio::test]
async fn missing_object_and_missing_bucket_have_different_errors() -> Result<()> {
    let (account, store) = account().await?;
    assert_eq!(kind(store.head(&ObjectRef::new(&account.bucket, "none")).await), ErrorKind::SourceMissing);
    assert_eq!(kind(store.head(&ObjectRef::new("no-such-bucket-here", "none")).await), ErrorKind::Settings);
    assert_eq!(kind(store.list("no-such-bucket-here", "").next().await), ErrorKind::Settings);
    assert_eq!(store.read_small(&account.bucket, "none", 10).await?, None);
    let missing = ObjectVersion { etag: "\"e\"".into(), ..source(&account, &store, "a", "x").await? };
    assert_eq!(kind(store.open(&missing).await), ErrorKind::SourceChanged);
    Ok(())
}

#[tokio::test]
async fn concurrent_creators_have_one_winner() -> Result<()> {
    let (account, store) = account().await?;
    let mut creators = tokio::task::JoinSet::new();
    for number in 0..16 {
        let (store, bucket) = (store.clone(), account.bucket.clone());
        creators.spawn(async move {
            let body = Bytes::from(number.to_string());
            (number, store.put_new(&bucket, "one", body, "text/plain").await)
        });
    }
    let mut winners = Vec::new();
    while let Some(ended) = creators.join_next().await {
        let (number, created) = ended?;
        if created? != Created::Exists {
            winners.push(number.to_string().into_bytes());
        }
    }
    assert_eq!(winners, [account.get("one").await?]);
    Ok(())
}

#[tokio::test]
async fn puts_and_deletes_honor_conditions() -> Result<()> {
    let (account, store) = account().await?;
    let bucket = account.bucket.as_str();
    let put_if = async |etag: &str, body| store.put_if(bucket, "a", etag, Bytes::from_static(body), "text/plain").await;
    assert_eq!(kind(put_if("\"00000000000000000000000000000000\"", b"0").await), ErrorKind::SourceMissing);
    let first = store.put(bucket, "a", Bytes::from_static(b"1"), "text/plain").await?;
    let second = put_if(&first, b"2").await?;
    assert_eq!(kind(put_if(&first, b"3").await), ErrorKind::SourceChanged);
    assert_eq!(store.delete_if(bucket, "a", &first).await?, Deleted::Changed);
    assert_eq!(account.get("a").await?, b"2");
    assert_eq!(store.delete_if(bucket, "a", &second).await?, Deleted::Done);
    assert_eq!(store.delete_if(bucket, "a", &second).await?, Deleted::Gone);
    store.delete(bucket, "a").await?;
    Ok(())
}

#[tokio::test]
async fn upload_is_visible_only_when_complete() -> Result<()> {
    let (account, store) = account().await?;
    let large = noise(20 * 1024 * 1024 + 3);
    for (key, bytes) in
        [("empty", &large[..0]), ("small", &large[..5]), ("exact", &large[..8 << 20]), ("large", &large)]
    {
        let mut upload = store.upload(&account.bucket, key, "text/csv");
        for piece in bytes.chunks(1_000_003) {
            upload.write(piece).await?;
        }
        assert_eq!(
            account.keys(key).await?,
            Vec::<String>::new(),
            "the object is visible before the upload is complete"
        );
        let Created::New { etag } = upload.finish_new().await? else { anyhow::bail!("{key} existed before") };
        assert!(account.get(key).await? == bytes, "{key} has other bytes");
        assert_eq!(store.head(&ObjectRef::new(&account.bucket, key)).await?.etag, etag);

        let mut second = store.upload(&account.bucket, key, "text/csv");
        second.write(b"theirs").await?;
        assert_eq!(second.finish_new().await?, Created::Exists);
        assert!(account.get(key).await? == bytes, "{key} was overwritten");
    }
    assert_eq!(account.open_uploads().await?, Vec::<String>::new());
    let source = store.head(&ObjectRef::new(&account.bucket, "large")).await?;
    assert!(read(&store, &source).await? == large, "the object has other bytes");
    let range = store.read_range(&source.object, &source.etag, 7..9_000_000).await?;
    assert!(range == large[7..9_000_000], "the range has other bytes");
    let stale = store.read_range(&source.object, "\"e\"", 0..1).await;
    assert_eq!(kind(stale), ErrorKind::SourceChanged);
    Ok(())
}

/// MiniStack returns the whole object for a range of a version. The store then returns only the range.
#[tokio::test]
async fn range_read_returns_the_requested_version() -> Result<()> {
    let (account, store) = account().await?;
    account.keep_versions().await?;
    let (older, newer) = (noise(3 << 20), noise(2 << 20));
    account.put("a", older.clone()).await?;
    let source = store.head(&ObjectRef::new(&account.bucket, "a")).await?;
    account.put("a", newer).await?;
    anyhow::ensure!(source.object.version_id.is_some(), "no version");
    for range in [0..10, 7..2_000_000, 3_000_000..3 << 20] {
        let read = store.read_range(&source.object, &source.etag, range.clone()).await?;
        assert!(read == older[range.start as usize..range.end as usize], "{range:?} has other bytes");
    }
    Ok(())
}

#[tokio::test]
async fn old_abandoned_upload_is_aborted() -> Result<()> {
    let (account, store) = account().await?;
    let live = format!("fallback/{}.parquet", id());
    for key in ["fallback/a b+c%.parquet", "fallback/b", "elsewhere/c", &live] {
        let mut upload = store.upload(&account.bucket, key, "x/y");
        upload.write(&noise(9 << 20)).await?;
        drop(upload);
    }
    let mut aborted = store.upload(&account.bucket, "fallback/d", "x/y");
    aborted.write(&noise(9 << 20)).await?;
    aborted.abort().await?;
    assert_eq!(account.open_uploads().await?.len(), 4);
    let hour = Duration::from_secs(3_600);
    assert_eq!(store.abort_stale_uploads(&account.bucket, "fallback/", hour, &[]).await?, 0);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(store.abort_stale_uploads(&account.bucket, "fallback/", Duration::ZERO, &[id()]).await?, 2);
    assert_eq!(account.open_uploads().await?, ["elsewhere/c", live.as_str()]);
    assert_eq!(store.abort_uploads(&account.bucket, &live).await?, 1);
    Ok(())
}

#[tokio::test]
async fn aborted_upload_cannot_complete() -> Result<()> {
    let (account, store) = account().await?;
    let mut upload = store.upload(&account.bucket, "fallback/a", "x/y");
    upload.write(b"rows").await?;
    let sealed = upload.seal().await?;
    assert_eq!(store.abort_uploads(&account.bucket, "fallback/a").await?, 1);
    assert_eq!(kind(sealed.complete_new().await), ErrorKind::Service);
    assert_eq!(account.keys("").await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn listing_returns_every_page_in_order() -> Result<()> {
    let (account, store) = account().await?;
    let mut writers = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let (s3, bucket) = (account.s3.clone(), account.bucket.clone());
        writers.spawn(async move {
            for number in (worker..2_003).step_by(8) {
                let put = s3.put_object().bucket(&bucket).key(format!("p/{number:05}"));
                put.body(ByteStream::from_static(b"x")).send().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    account.put("q/not below", "x").await?;
    let (mut keys, mut pages) = (Vec::new(), store.list(&account.bucket, "p/"));
    let mut sizes = Vec::new();
    while let Some(page) = pages.next().await? {
        sizes.push(page.len());
        keys.extend(page.into_iter().map(|listed| listed.key));
    }
    assert_eq!(sizes, [1_000, 1_000, 3]);
    assert_eq!(keys, (0..2_003).map(|number| format!("p/{number:05}")).collect::<Vec<_>>());
    assert_eq!(pages.next().await?, None);
    Ok(())
}

fn id() -> SourceId {
    SourceId::parse(&"0123456789abcdef".repeat(4)).expect("64 hex digits")
}

fn lease_key() -> String {
    format!("lease/{}", id())
}

/// The object of the leases.
fn leased(bucket: &str) -> ObjectRef {
    ObjectRef::new(bucket, "uploads/leased.csv")
}

async fn acquire(account: &Account, store: &Store, worker: &str) -> spillway_core::error::Result<Lease> {
    Lease::acquire(store, &leased(&account.bucket), lease_key(), worker, TTL).await
}

#[tokio::test]
async fn lease_has_one_holder_and_is_renewed() -> Result<()> {
    let (account, store) = account().await?;
    // Twice the usual time, so that a late renewal does not look like a missing one.
    let ttl = 2 * TTL;
    let ours = Lease::acquire(&store, &leased(&account.bucket), lease_key(), "first", ttl).await?;
    assert_eq!(ours.previous_holder(), None);
    tokio::time::sleep(ttl + (EXPIRED - TTL)).await;
    let refused = acquire(&account, &store, "second").await.expect_err("two workers hold the lease");
    assert_eq!(refused.kind(), ErrorKind::Busy);
    assert!(refused.to_string().contains("worker first holds lease/"), "{refused}");
    ours.verify().await?;
    ours.fence_before_commit().await?;
    tokio::time::sleep(ttl / 2).await;
    let listed = lease::leases(&store, &account.bucket, "lease/").await?;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].source_id, listed[0].worker.as_str()), (&id(), "first"));
    assert!(listed[0].commit_may_be_sent, "the renewal has lost the flag");
    assert_eq!(lease::drop_expired(&store, &account.bucket, "lease/", Timestamp::now()).await?, 0);
    ours.release().await?;
    assert_eq!(account.keys("").await?, Vec::<String>::new());
    acquire(&account, &store, "third").await?.release().await?;
    Ok(())
}

#[tokio::test]
async fn expired_holder_cannot_commit_or_release() -> Result<()> {
    let (account, store) = account().await?;
    // The lease of a stalled worker expires, and the worker does not notice.
    let (bucket, key) = (account.bucket.clone(), format!("lease/{}", id()));
    let frozen = Lease::acquire(&store, &leased(&bucket), lease_key(), "frozen", Duration::from_secs(3_600)).await?;
    let note = account.get(&key).await?;
    let mut note: serde_json::Value = serde_json::from_slice(&note)?;
    note["expires_at"] = "2026-01-01T00:00:00Z".into();
    note["token"] = "of a dead worker".into();
    account.put(&key, note.to_string()).await?;

    let successor = acquire(&account, &store, "successor").await?;
    assert_eq!(successor.previous_holder().map(|holder| holder.worker.as_str()), Some("frozen"));
    assert_eq!(kind(frozen.fence_before_commit().await), ErrorKind::LeaseLost);
    assert_eq!(kind(frozen.verify().await), ErrorKind::LeaseLost);
    assert_eq!(kind(frozen.fence_before_publish().await), ErrorKind::LeaseLost);
    frozen.release().await?;
    successor.fence_before_commit().await?;
    successor.release().await?;
    assert_eq!(account.keys("").await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn lease_survives_lost_renewal_response() -> Result<()> {
    let (account, store) = account().await?;
    let key = format!("lease/{}", id());
    let ours = Lease::acquire(&store, &leased(&account.bucket), lease_key(), "w", Duration::from_secs(3_600)).await?;
    // As after a renewal whose response was lost: the same token, another ETag.
    let touch = async || {
        let mut note: serde_json::Value = serde_json::from_slice(&account.get(&key).await?)?;
        note["expires_at"] = "2100-01-01T00:00:00Z".into();
        account.put(&key, note.to_string()).await
    };
    touch().await?;
    ours.fence_before_commit().await?;
    assert!(lease::leases(&store, &account.bucket, "lease/").await?[0].commit_may_be_sent);
    touch().await?;
    ours.release().await?;
    assert_eq!(account.keys("").await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn successor_inherits_commit_and_fallback_flags() -> Result<()> {
    let (account, store) = account().await?;
    account.put("uploads/leased.csv", "a\n1\n").await?;
    // This worker dies after it has recorded that a COMMIT may be sent.
    let died = acquire(&account, &store, "died").await?;
    died.fence_before_commit().await?;
    drop(died);
    assert_eq!(kind(acquire(&account, &store, "early").await), ErrorKind::Busy);
    tokio::time::sleep(EXPIRED).await;
    // An expired lease with a flag is not deleted.
    assert_eq!(lease::drop_expired(&store, &account.bucket, "lease/", Timestamp::now()).await?, 0);

    let second = acquire(&account, &store, "second").await?;
    let previous = second.previous_holder().context("no previous holder")?.clone();
    assert!(previous.commit_may_be_sent && !previous.fallback_may_be_written);
    // This attempt abandons the lease without a response from the database. Its successor inherits the flag at once.
    second.abandon().await?;
    let third = acquire_soon(&account, &store, "third").await?;
    assert!(third.previous_holder().is_some_and(|holder| holder.commit_may_be_sent), "the flag was lost");
    third.fence_before_publish().await?;
    third.abandon().await?;
    let fourth = acquire_soon(&account, &store, "fourth").await?;
    assert!(fourth.previous_holder().is_some_and(|holder| holder.commit_may_be_sent && holder.fallback_may_be_written));
    fourth.release().await?;

    let fifth = acquire(&account, &store, "fifth").await?;
    assert_eq!(fifth.previous_holder(), None, "a released lease has no previous holder");
    fifth.fence_before_commit().await?;
    fifth.abandon().await?;
    let sixth = acquire_soon(&account, &store, "sixth").await?;
    assert!(sixth.previous_holder().is_some_and(|holder| holder.commit_may_be_sent));
    sixth.release().await?;
    acquire(&account, &store, "seventh").await?.abandon().await?;
    assert_eq!(account.keys("lease/").await?, Vec::<String>::new(), "an abandoned lease without flags is deleted");

    // If the object is deleted, no later attempt needs the flag.
    let eighth = acquire(&account, &store, "eighth").await?;
    eighth.fence_before_commit().await?;
    eighth.abandon().await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(lease::drop_expired(&store, &account.bucket, "lease/", Timestamp::now()).await?, 0);
    store.delete(&account.bucket, "uploads/leased.csv").await?;
    assert_eq!(lease::drop_expired(&store, &account.bucket, "lease/", Timestamp::now()).await?, 1);
    Ok(())
}

/// Acquires an abandoned lease, which has expired a few milliseconds after its last write.
async fn acquire_soon(account: &Account, store: &Store, worker: &str) -> spillway_core::error::Result<Lease> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    acquire(account, store, worker).await
}

#[tokio::test]
async fn holders_that_died_are_counted_and_others_are_not() -> Result<()> {
    let (account, store) = account().await?;
    account.put("uploads/leased.csv", "a\n1\n").await?;
    let source = store.head(&leased(&account.bucket)).await?;
    let key = format!("lease/{}", source.id);
    let acquire = async |worker: &str| Lease::acquire(&store, &leased(&account.bucket), key.clone(), worker, TTL).await;
    let deaths = |lease: &Lease| lease.previous_holder().map(|previous| previous.deaths);

    drop(acquire("first").await?);
    assert_eq!(lease::leases(&store, &account.bucket, "lease/").await?[0].deaths, 0, "a live lease");
    tokio::time::sleep(EXPIRED).await;
    assert_eq!(lease::leases(&store, &account.bucket, "lease/").await?[0].deaths, 1);
    assert_eq!(
        lease::drop_expired(&store, &account.bucket, "lease/", Timestamp::now()).await?,
        0,
        "the count is still needed"
    );
    let second = acquire("second").await?;
    assert_eq!(deaths(&second), Some(1));
    second.abandon().await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let third = acquire("third").await?;
    assert_eq!(deaths(&third), Some(1), "the second holder abandoned the lease");
    drop(third);
    tokio::time::sleep(EXPIRED).await;
    let fourth = acquire("fourth").await?;
    assert_eq!(deaths(&fourth), Some(2));
    fourth.release().await?;
    assert_eq!(deaths(&acquire("fifth").await?), None, "a released lease has no count");

    // An overwritten object has a count of its own.
    tokio::time::sleep(EXPIRED).await;
    account.put("uploads/leased.csv", "a\n2\n").await?;
    assert_eq!(lease::drop_expired(&store, &account.bucket, "lease/", Timestamp::now()).await?, 1);
    Ok(())
}

#[tokio::test]
async fn concurrent_successors_have_one_winner() -> Result<()> {
    let (account, store) = account().await?;
    drop(acquire(&account, &store, "died").await?);
    tokio::time::sleep(EXPIRED).await;
    let mut successors = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (account, store) = (account.clone(), store.clone());
        successors.spawn(async move { acquire(&account, &store, &number.to_string()).await });
    }
    let (mut held, mut refused) = (Vec::new(), 0);
    while let Some(ended) = successors.join_next().await {
        match ended? {
            Ok(lease) => held.push(lease),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Busy);
                refused += 1;
            }
        }
    }
    assert_eq!((held.len(), refused), (1, 7));
    Ok(())
}

#[tokio::test]
async fn cleanup_deletes_expired_leases() -> Result<()> {
    let (account, store) = account().await?;
    let note = |expires_at: &str, commit: bool| {
        format!(
            r#"{{"worker":"w","token":"t","acquired_at":"2026-01-01T00:00:00Z","expires_at":"{expires_at}","commit_may_be_sent":{commit}}}"#
        )
    };
    let ago = |hours: i64| (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string();
    let name = |digit: &str| format!("lease/{}", digit.repeat(64));
    account.put(&name("1"), note(&ago(1), false)).await?;
    account.put(&name("2"), note(&ago(23), true)).await?;
    account.put(&name("3"), note(&ago(25), true)).await?;
    account.put(&name("4"), note(&ago(-1), false)).await?;
    account.put("lease/README", "not a lease").await?;
    assert_eq!(lease::leases(&store, &account.bucket, "lease/").await?.len(), 4);
    assert_eq!(lease::drop_expired(&store, &account.bucket, "lease/", Timestamp::now()).await?, 2);
    let mut expected = vec![name("2"), name("4"), "lease/README".to_owned()];
    expected.sort();
    assert_eq!(account.keys("").await?, expected);
    Ok(())
}
