//! The object store that whole recordings are moved to: S3 and what speaks like it, Azure Blob.
//!
//! An object is the sealed file as it is, under `PREFIX/<first two hex digits>/<session>.rvr`: the same name as in the
//! directory, so that whoever copies the bucket has the directory. Nothing here can open one; nothing here decides when
//! one is moved, see [`crate::mover`].
//!
//! Every request is bounded in time and in bytes: [`REQUEST_MAX`], [`PART_BYTES`]. Reading goes block by block, so that
//! a moment of a long recording costs its own blocks and not the whole.

use crate::container::hex;
use async_trait::async_trait;
use aws_lc_rs::digest;
use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, BackoffConfig, Certificate, ClientOptions, GetOptions, GetRange, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, RetryConfig,
};
use ravelin_model::ports::{Outlet, Reading};
use ravelin_model::recording::{Broken, LogPlace};
use ravelin_model::text::printable;
use ravelin_model::{Session, SessionId};
use secrecy::{ExposeSecret, SecretString};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Bytes of one request that writes or verifies, at least; a file that is longer than this is written in parts.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one object. S3 takes 10,000 (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>), so a
/// longer file is written in larger parts.
const PARTS_MAX: u64 = 9_000;
/// Bytes that one request reads when a recording is played.
const BLOCK_BYTES: u64 = 1 << 20;
/// Blocks that a reading keeps.
const BLOCKS_MAX: usize = 2;
/// The object that is put to see whether one can be.
const PROBE: &str = ".probe";
/// Longest that a connection may take to be there.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest that one request may take, its bytes included.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// Longest that a failed request is tried again; whoever asked tries again later.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Longest words of a far end that are passed on, in characters.
const WORDS_MAX: usize = 300;

/// An object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Whose.
    pub vendor: Vendor,
    /// Its URL, where it is not the vendor's own: `http` or `https`. For S3 without, for Azure Blob with the account.
    pub endpoint: Option<String>,
    /// Before the names of all objects, without slashes around it; may be empty.
    pub prefix: String,
    /// Certificates to trust besides the system's, as PEM.
    pub ca: Option<String>,
    /// Variables by which a machine or a container is told what role it has, such as `AWS_ROLE_ARN`; they count where no
    /// key is given.
    pub role: Vec<(String, String)>,
}

/// Whose an object store is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// S3, or what speaks like it.
    S3 {
        /// The bucket.
        bucket: String,
        /// Its region.
        region: String,
        /// The access key; without, that of the machine's or container's role is asked for.
        key: Option<AccessKey>,
    },
    /// Azure Blob.
    Azure {
        /// The storage account.
        account: String,
        /// The container.
        container: String,
        /// The account's key; without, the machine's managed identity is used.
        key: Option<Secret>,
    },
}

/// An access key of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// The token that belongs to it, where it is a passing one.
    pub token: Option<Secret>,
}

/// Text that does not show itself.
#[derive(Clone, Debug)]
pub struct Secret(pub SecretString);

impl Secret {
    fn expose(&self) -> &str {
        self.0.expose_secret().trim()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

/// An object store cannot be used as it is set, or did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FarFault {
    /// It has no such object.
    #[error("it holds no such recording")]
    Missing,
    /// It did not do it.
    #[error("{0}")]
    Failed(String),
}

/// An object store with recordings.
pub struct Far {
    store: Arc<dyn ObjectStore>,
    /// `s3://bucket` or `azure://account/container`, for messages.
    place: String,
    bucket: String,
    prefix: String,
}

impl fmt::Debug for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Far").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Far {
    /// Prepares everything, and reaches for nothing.
    ///
    /// # Errors
    /// What of the configuration cannot be used. Holds no secret.
    pub fn new(config: &StoreConfig) -> Result<Self, FarFault> {
        let mut options = ClientOptions::new().with_connect_timeout(CONNECT_MAX).with_timeout(REQUEST_MAX);
        // Whoever configures decides; the store must not.
        if config.endpoint.as_deref().is_some_and(|url| url.starts_with("http://")) {
            options = options.with_allow_http(true);
        }
        if let Some(pem) = &config.ca {
            let unfit = |_| FarFault::Failed("its ca holds no certificates in PEM".to_owned());
            let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(unfit)?;
            if certificates.is_empty() {
                return Err(FarFault::Failed("its ca holds no certificates in PEM".to_owned()));
            }
            for certificate in certificates {
                options = options.with_root_certificate(certificate);
            }
        }
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: 2,
            retry_timeout: RETRY_MAX,
        };
        let (store, place, bucket): (Arc<dyn ObjectStore>, String, &str) = match &config.vendor {
            Vendor::S3 { bucket, region, key } => {
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(region)
                    .with_client_options(options)
                    .with_disable_bulk_delete(true)
                    .with_retry(retry);
                if let Some(endpoint) = &config.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                if let Some(key) = key {
                    builder = builder.with_access_key_id(&key.id).with_secret_access_key(key.secret.expose());
                    if let Some(token) = &key.token {
                        builder = builder.with_token(token.expose());
                    }
                } else {
                    for (name, value) in &config.role {
                        if let Ok(known) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                            builder = builder.with_config(known, value);
                        }
                    }
                }
                let store = builder.build().map_err(|error| FarFault::Failed(in_short(&error)))?;
                (Arc::new(store), format!("s3://{bucket}"), bucket)
            }
            Vendor::Azure { account, container, key } => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_account(account)
                    .with_container_name(container)
                    .with_client_options(options)
                    .with_retry(retry);
                if let Some(endpoint) = &config.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                if let Some(key) = key {
                    builder = builder.with_access_key(key.expose());
                } else {
                    for (name, value) in &config.role {
                        if let Ok(known) = name.to_ascii_lowercase().parse::<AzureConfigKey>() {
                            builder = builder.with_config(known, value);
                        }
                    }
                }
                // What a library says of a key may hold a part of it.
                let unfit = |_| FarFault::Failed("its account, container or key is not one".to_owned());
                let store = builder.build().map_err(unfit)?;
                (Arc::new(store), format!("azure://{account}/{container}"), container)
            }
        };
        let prefix = config.prefix.trim_matches('/').to_owned();
        Ok(Self { store, place, bucket: bucket.to_owned(), prefix })
    }

    /// The same over any store.
    #[cfg(test)]
    pub(crate) fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, place: "memory://all".to_owned(), bucket: "all".to_owned(), prefix: "a/b".to_owned() }
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    fn key(&self, name: &str) -> Key {
        if self.prefix.is_empty() { Key::from(name) } else { Key::from(format!("{}/{name}", self.prefix)) }
    }

    fn key_of(&self, session: &SessionId) -> Key {
        self.key(&format!("{}/{session}.rvr", shelf_of(session)))
    }

    /// Where a recording is in it, for messages.
    pub(crate) fn place_of(&self, session: &SessionId) -> String {
        format!("{}/{}", self.place, self.key_of(session))
    }

    async fn put_probe(&self) -> Result<(), FarFault> {
        let put = self.store.put(&self.key(PROBE), Bytes::from_static(b"ravelin").into()).await;
        put.map(|_| ()).map_err(|error| self.fault(&error))
    }

    /// Whether it takes objects and gives them back. One small object, `.probe`, stays there.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), FarFault> {
        self.put_probe().await?;
        let got = self.store.get_range(&self.key(PROBE), 0..7).await.map_err(|error| self.fault(&error))?;
        if got.as_ref() == b"ravelin" {
            Ok(())
        } else {
            Err(FarFault::Failed(format!("{} gives back something else than it was given", self.place)))
        }
    }

    /// Puts a file of this length there. What was there under its name is replaced; a part of it never is to be seen.
    pub(crate) async fn put(&self, session: &SessionId, path: &Path, length: u64) -> Result<(), FarFault> {
        let key = self.key_of(session);
        let file = Arc::new(File::open(path).map_err(|error| cannot_read(path, &error))?);
        if length <= PART_BYTES {
            let bytes = piece(&file, path, 0, length).await?;
            self.store.put(&key, bytes.into()).await.map_err(|error| self.fault(&error))?;
            return Ok(());
        }
        let part = PART_BYTES.max(length.div_ceil(PARTS_MAX));
        let mut upload = self.store.put_multipart(&key).await.map_err(|error| self.fault(&error))?;
        let written = async {
            let mut from = 0;
            while from < length {
                let bytes = piece(&file, path, from, part.min(length - from)).await?;
                from += bytes.len() as u64;
                upload.put_part(bytes.into()).await.map_err(|error| self.fault(&error))?;
            }
            upload.complete().await.map_err(|error| self.fault(&error))
        };
        let written = written.await;
        if let Err(fault) = written {
            // Parts that stay behind cost money and are seen by nobody.
            if let Err(error) = upload.abort().await {
                tracing::warn!(%session, error = in_short(&error), "parts of an object that was not finished stay behind");
            }
            return Err(fault);
        }
        Ok(())
    }

    /// Puts text there that is made as it is read, under this name: as one request, or in parts where it is longer.
    async fn put_text(&self, name: &str, text: &mut dyn Reading) -> Result<(), FarFault> {
        let (key, part_bytes) = (self.key(name), usize::try_from(PART_BYTES).unwrap_or(usize::MAX));
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, "text/plain; charset=utf-8".into());
        let first = gather(text, part_bytes).await?;
        if first.len() < part_bytes {
            let options = PutOptions { attributes, ..PutOptions::default() };
            self.store.put_opts(&key, first.into(), options).await.map_err(|error| self.fault(&error))?;
            return Ok(());
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let mut upload = self.store.put_multipart_opts(&key, options).await.map_err(|error| self.fault(&error))?;
        let written = async {
            let mut part = first;
            while !part.is_empty() {
                upload.put_part(part.into()).await.map_err(|error| self.fault(&error))?;
                part = gather(text, part_bytes).await?;
            }
            upload.complete().await.map(|_| ()).map_err(|error| self.fault(&error))
        };
        let written = written.await;
        if written.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(name, error = in_short(&error), "parts of an object that was not finished stay behind");
        }
        written
    }

    /// SHA-256 in hex and size of what is there, read from its beginning to its end.
    pub(crate) async fn digest(&self, session: &SessionId) -> Result<(String, u64), FarFault> {
        let key = self.key_of(session);
        let mut context = digest::Context::new(&digest::SHA256);
        let (mut from, mut length) = (0, u64::MAX);
        while from < length {
            let (bytes, whole) = self.range(&key, from, PART_BYTES).await?;
            if bytes.is_empty() {
                return Err(FarFault::Failed(format!("{} gave nothing where something is", self.place)));
            }
            context.update(&bytes);
            from += bytes.len() as u64;
            length = whole;
        }
        Ok((hex(context.finish().as_ref()), from))
    }

    /// Up to `count` bytes from there, and the whole length of the object.
    async fn range(&self, key: &Key, from: u64, count: u64) -> Result<(Bytes, u64), FarFault> {
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(from..from + count)));
        let got = self.store.get_opts(key, options).await.map_err(|error| self.fault(&error))?;
        let length = got.meta.size;
        Ok((got.bytes().await.map_err(|error| self.fault(&error))?, length))
    }

    /// Removes a recording; one that is not there counts as removed.
    pub(crate) async fn remove(&self, session: &SessionId) -> Result<(), FarFault> {
        match self.store.delete(&self.key_of(session)).await.map_err(|error| self.fault(&error)) {
            Ok(()) | Err(FarFault::Missing) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Opens a recording. Blocks, and must be called where that is allowed.
    pub(crate) fn open(self: &Arc<Self>, session: &SessionId) -> Result<FarFile, FarFault> {
        let (key, handle) = (self.key_of(session), Handle::current());
        let (first, length) = handle.block_on(self.range(&key, 0, BLOCK_BYTES))?;
        let blocks = Mutex::new(VecDeque::from([(0, first)]));
        Ok(FarFile { far: Arc::clone(self), key, handle, length, blocks })
    }

    fn fault(&self, error: &object_store::Error) -> FarFault {
        let text = error.to_string();
        let place = &self.place;
        // https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and
        // https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes have these words.
        if text.contains("NoSuchBucket") {
            return FarFault::Failed(format!("there is no bucket {}: make it, or correct its name", self.bucket));
        }
        if text.contains("ContainerNotFound") {
            return FarFault::Failed(format!("there is no container {}: make it, or correct its name", self.bucket));
        }
        match error {
            object_store::Error::NotFound { .. } => FarFault::Missing,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                let code = code(&text).map(|code| format!(" ({code})")).unwrap_or_default();
                FarFault::Failed(format!(
                    "{place} refuses{code}: correct the credentials, or give them the right to read and write objects"
                ))
            }
            _not_by_us => FarFault::Failed(format!("{place} cannot be used: {}", in_short(error))),
        }
    }
}

/// As much of a text as makes a part, or what is left of it.
async fn gather(text: &mut dyn Reading, bytes: usize) -> Result<Vec<u8>, FarFault> {
    let mut part = Vec::new();
    while part.len() < bytes {
        match text.next().await.map_err(|refusal| FarFault::Failed(refusal.to_string()))? {
            Some(piece) => part.extend_from_slice(&piece),
            None => break,
        }
    }
    Ok(part)
}

#[async_trait]
impl Outlet for Far {
    async fn put(&self, place: &LogPlace, of: &Session, output: &mut dyn Reading) -> Result<(), Broken> {
        self.put_text(&place.name(&of.draft.id), output).await.map_err(Broken::new)
    }

    fn destination(&self) -> String {
        self.place.clone()
    }

    async fn probe(&self) -> Result<(), Broken> {
        // Nothing is read from a place of logs, so the right to read is not asked for.
        self.put_probe().await.map_err(Broken::new)
    }
}

/// The code in an answer in XML.
fn code(text: &str) -> Option<String> {
    let (code, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
    Some(printable(code, 64))
}

/// The innermost reason, which is the one that somebody can do something about.
fn in_short(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    printable(&innermost.to_string(), WORDS_MAX)
}

fn cannot_read(path: &Path, error: &io::Error) -> FarFault {
    if error.kind() == io::ErrorKind::NotFound {
        return FarFault::Missing;
    }
    FarFault::Failed(format!("cannot read {}: {error}", path.display()))
}

/// A piece of a local file.
async fn piece(file: &Arc<File>, path: &Path, from: u64, count: u64) -> Result<Bytes, FarFault> {
    let file = Arc::clone(file);
    let count = usize::try_from(count).map_err(|_| FarFault::Failed("a part is too long".to_owned()))?;
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; count];
        file.read_exact_at(&mut bytes, from).map(|()| Bytes::from(bytes))
    });
    match read.await {
        Ok(read) => read.map_err(|error| cannot_read(path, &error)),
        Err(died) => Err(FarFault::Failed(format!("reading {} died: {died}", path.display()))),
    }
}

/// The folder that a recording lies in, in the directory and in the store.
pub(crate) fn shelf_of(session: &SessionId) -> &str {
    let id = session.as_str();
    let hex = id.rsplit_once('-').map_or(id, |(_, hex)| hex);
    hex.get(..2).unwrap_or("00")
}

/// A recording in an object store, read as a file is.
pub(crate) struct FarFile {
    far: Arc<Far>,
    key: Key,
    handle: Handle,
    length: u64,
    // The newest last.
    blocks: Mutex<VecDeque<(u64, Bytes)>>,
}

impl FarFile {
    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes from there on, as many as there are. Blocks, and must be called where that is allowed.
    pub(crate) fn read_at(&self, bytes: &mut [u8], from: u64) -> io::Result<usize> {
        if from >= self.length || bytes.is_empty() {
            return Ok(0);
        }
        let number = from / BLOCK_BYTES;
        let block = self.block(number)?;
        let within = usize::try_from(from - number * BLOCK_BYTES).map_err(io::Error::other)?;
        let there = block.get(within..).filter(|there| !there.is_empty());
        let there = there.ok_or_else(|| io::Error::other(format!("{} has changed", self.far.place)))?;
        let count = there.len().min(bytes.len());
        bytes[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn block(&self, number: u64) -> io::Result<Bytes> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = blocks.iter().find(|(kept, _)| *kept == number) {
            return Ok(bytes.clone());
        }
        let got = self.handle.block_on(self.far.range(&self.key, number * BLOCK_BYTES, BLOCK_BYTES));
        let (bytes, _) = got.map_err(io::Error::other)?;
        blocks.push_back((number, bytes.clone()));
        if blocks.len() > BLOCKS_MAX {
            blocks.pop_front();
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use ravelin_model::Refusal;

    fn s3(endpoint: &str) -> StoreConfig {
        let secret = Secret(SecretString::from("hush-hush"));
        let key = AccessKey { id: "AKIDEXAMPLE".to_owned(), secret, token: None };
        StoreConfig {
            vendor: Vendor::S3 { bucket: "kept".to_owned(), region: "eu-central-1".to_owned(), key: Some(key) },
            endpoint: Some(endpoint.to_owned()),
            prefix: "/prod/".to_owned(),
            ca: None,
            role: Vec::new(),
        }
    }

    /// A text in pieces, one of which fails if told so.
    struct Pieces(Vec<Option<Vec<u8>>>);

    #[async_trait]
    impl Reading for Pieces {
        async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
            if self.0.is_empty() {
                return Ok(None);
            }
            self.0.remove(0).map(|piece| Some(piece.into())).ok_or_else(|| Refusal::unavailable("the recording", "x"))
        }
    }

    #[tokio::test]
    async fn text_is_put_whole_in_one_request_or_in_parts_and_replaced_or_not_put_at_all() {
        let store = Arc::new(InMemory::new());
        let far = Far::over(store.clone());
        let piece = |letter: u8, bytes: usize| Some(vec![letter; bytes]);
        let part = usize::try_from(PART_BYTES).expect("small");
        for pieces in [
            vec![],
            vec![piece(b'a', 10)],
            vec![piece(b'a', part)],
            vec![piece(b'a', part - 1), piece(b'b', part), piece(b'c', 7)],
            vec![piece(b'd', 1), piece(b'e', 1)],
        ] {
            let whole: Vec<u8> = pieces.iter().flatten().flatten().copied().collect();
            far.put_text("x/1.log", &mut Pieces(pieces)).await.expect("put");
            let got = store.get(&Key::from("a/b/x/1.log")).await.expect("there").bytes().await.expect("whole");
            assert!(got.as_ref() == whole.as_slice());
        }
        let cut = vec![piece(b'a', part), piece(b'b', part), None];
        assert!(far.put_text("x/2.log", &mut Pieces(cut)).await.is_err());
        assert!(store.get(&Key::from("a/b/x/2.log")).await.is_err(), "a part of it is never to be seen");
    }

    #[test]
    fn a_configuration_shows_no_secret() {
        let config = s3("http://127.0.0.1:1");
        assert!(!format!("{config:?}").contains("hush"));
        let far = Far::new(&config).expect("usable");
        assert!(!format!("{far:?}").contains("hush"));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_key() {
        let azure = StoreConfig {
            vendor: Vendor::Azure {
                account: "acct".to_owned(),
                container: "kept".to_owned(),
                key: Some(Secret(SecretString::from("no base 64!"))),
            },
            endpoint: None,
            prefix: String::new(),
            ca: None,
            role: Vec::new(),
        };
        let said = Far::new(&azure).expect_err("no key").to_string();
        assert!(said.contains("key") && !said.contains("base 64"), "{said}");
        let said = Far::new(&StoreConfig { ca: Some("nothing".to_owned()), ..s3("https://127.0.0.1:1") });
        assert!(said.expect_err("no certificates").to_string().contains("ca"));
    }

    #[tokio::test]
    async fn an_unreachable_store_says_so_in_time() {
        // Nothing listens on port 1.
        let far = Far::new(&s3("http://127.0.0.1:1")).expect("usable");
        let said = far.probe().await.expect_err("nobody is there").to_string();
        assert!(said.starts_with("s3://kept cannot be used: "), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
}
