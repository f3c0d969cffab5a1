//! An archive in a bucket that speaks the protocol of S3.
//!
//! The engine blocks and knows no runtime, so this has one of its own: a call hands its work over and waits. Files are
//! uploaded in parts under a name that readers pass over, compared, and then copied by the server of the bucket to
//! their names. The manifest beside them is put under a condition, so that two writers cannot take each other's place.

use crate::config::S3;
use kymo_engine::archive::{ArchiveStore, NewObject};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig, UpdateVersion, WriteMultipart,
};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// Bytes of a part of an upload: the least that S3 takes is 5 MiB.
const PART_LEN: usize = 8 << 20;
/// Parts that are on their way at a time.
const PARTS: usize = 2;
/// How often a request is repeated, and for how long, when the server does not answer as it should.
const TRIES: usize = 4;
const PATIENCE: Duration = Duration::from_secs(20);

/// A bucket, or what is below a prefix of one.
#[derive(Debug)]
pub(crate) struct Bucket {
    store: Arc<AmazonS3>,
    prefix: String,
    location: String,
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Bucket {
    /// The bucket and prefix of `s3://bucket/prefix`. Nothing is asked of the server yet.
    pub(crate) fn open(location: &str, s3: &S3) -> io::Result<Self> {
        Self::open_with(location, s3, |builder| builder)
    }

    fn open_with(location: &str, s3: &S3, more: impl FnOnce(AmazonS3Builder) -> AmazonS3Builder) -> io::Result<Self> {
        let (bucket, prefix) = parse(location).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{location} is not of the form s3://bucket/prefix"))
        })?;
        // Whoever was first has set the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let retry = RetryConfig { max_retries: TRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
        let client = ClientOptions::new().with_connect_timeout(Duration::from_secs(5)).with_timeout(PATIENCE);
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
        if let Some(region) = &s3.region {
            builder = builder.with_region(region);
        }
        let mut allow_http = false;
        if let Some(endpoint) = &s3.endpoint {
            allow_http = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint);
        }
        builder = builder.with_client_options(client.with_allow_http(allow_http));
        if let Some(name) = &s3.profile {
            let profile = profile::read(name)?;
            builder = builder.with_access_key_id(profile.key_id).with_secret_access_key(profile.secret);
            if let Some(token) = profile.token {
                builder = builder.with_token(token);
            }
        }
        let store = Arc::new(more(builder).build().map_err(system)?);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("kymo-bucket").build()?;
        let handle = runtime.handle().clone();
        Ok(Self { store, prefix, location: location.to_owned(), runtime: Some(runtime), handle })
    }

    fn path(&self, key: &str) -> io::Result<Path> {
        let whole = if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        Path::parse(whole).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
        wait(&self.handle, work)
    }

    /// The content of an object and the version that it is.
    fn content(&self, path: Path) -> io::Result<Option<(Vec<u8>, UpdateVersion)>> {
        let store = Arc::clone(&self.store);
        let got = self.wait(async move {
            let result = store.get(&path).await?;
            let version = UpdateVersion { e_tag: result.meta.e_tag.clone(), version: result.meta.version.clone() };
            Ok((result.bytes().await?.to_vec(), version))
        })?;
        match got {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(system(error)),
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A store may be dropped where nothing may block.
            runtime.shutdown_background();
        }
    }
}

impl ArchiveStore for Bucket {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn create(&self, key: &str) -> io::Result<Box<dyn NewObject>> {
        let (store, path) = (Arc::clone(&self.store), self.path(key)?);
        let upload = self.wait(async move { store.put_multipart(&path).await })?.map_err(system)?;
        let upload = {
            let _context = self.handle.enter();
            WriteMultipart::new_with_chunk_size(upload, PART_LEN)
        };
        Ok(Box::new(Upload { handle: self.handle.clone(), upload: Some(upload) }))
    }

    fn publish(&self, aside: &str, key: &str) -> io::Result<()> {
        let (store, from, to) = (Arc::clone(&self.store), self.path(aside)?, self.path(key)?);
        let done = self.wait(async move {
            store.copy(&from, &to).await?;
            store.delete(&from).await
        })?;
        done.map_err(system)
    }

    fn put_if(&self, key: &str, expected: Option<&[u8]>, content: &[u8]) -> io::Result<bool> {
        let path = self.path(key)?;
        let mode = match (expected, self.content(path.clone())?) {
            (None, None) => PutMode::Create,
            (Some(expected), Some((present, version))) if present == expected => PutMode::Update(version),
            _ => return Ok(false),
        };
        let (store, payload) = (Arc::clone(&self.store), content.to_vec().into());
        match self.wait(async move { store.put_opts(&path, payload, PutOptions::from(mode)).await })? {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(system(error)),
        }
    }

    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.content(self.path(key)?)?.map(|(content, _)| content))
    }

    fn read(&self, key: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        let (store, path) = (Arc::clone(&self.store), self.path(key)?);
        let wanted = range.end.saturating_sub(range.start);
        let bytes = self.wait(async move { store.get_range(&path, range).await })?.map_err(system)?;
        if bytes.len() as u64 == wanted { Ok(bytes.to_vec()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let (store, path) = (Arc::clone(&self.store), self.path(folder)?);
        let found = self.wait(async move { store.list_with_delimiter(Some(&path)).await })?.map_err(system)?;
        let name = |path: &Path| path.filename().map(|name| format!("{folder}/{name}"));
        Ok(found.objects.iter().filter_map(|object| name(&object.location)).collect())
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(key)?);
        match self.wait(async move { store.delete(&path).await })? {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(system(error)),
        }
    }
}

/// An object that is uploaded in parts.
#[derive(Debug)]
struct Upload {
    handle: Handle,
    /// None after an error, and when it is finished.
    upload: Option<WriteMultipart>,
}

impl NewObject for Upload {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut upload = self.upload.take().ok_or_else(given_up)?;
        {
            let _context = self.handle.enter();
            upload.write(bytes);
        }
        let (upload, result) = wait(&self.handle, async move {
            let result = upload.wait_for_capacity(PARTS).await;
            (upload, result)
        })?;
        result.map_err(system)?;
        self.upload = Some(upload);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        let upload = self.upload.take().ok_or_else(given_up)?;
        wait(&self.handle, async move { upload.finish().await })?.map_err(system)?;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            // Parts that stay are the bucket's to tidy up.
            self.handle.spawn(async move { drop(upload.abort().await) });
        }
    }
}

fn given_up() -> io::Error {
    io::Error::other("the upload was given up after an error")
}

/// Runs some work in the background and waits for it, whatever the thread is.
fn wait<T: Send + 'static>(handle: &Handle, work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (done, result) = mpsc::sync_channel(1);
    // Nobody waits only if the process ends.
    handle.spawn(async move { drop(done.send(work.await)) });
    result.recv().map_err(|_| io::Error::other("the requests to the bucket have ended"))
}

fn system(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// Bucket and prefix.
fn parse(location: &str) -> Option<(&str, String)> {
    let (bucket, prefix) = location.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
    (!bucket.is_empty()).then(|| (bucket, prefix.trim_matches('/').to_owned()))
}

mod profile {
    //! A profile of the file in which the tools of Amazon keep credentials.

    use std::io;
    use std::path::PathBuf;

    pub(super) struct Profile {
        pub(super) key_id: String,
        pub(super) secret: String,
        pub(super) token: Option<String>,
    }

    /// Reads `AWS_SHARED_CREDENTIALS_FILE`, or `~/.aws/credentials`.
    pub(super) fn read(name: &str) -> io::Result<Profile> {
        let path = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(PathBuf::from(home).join(".aws/credentials"))
        });
        let path = path.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "HOME is not set"))?;
        let told = |what: &str| format!("{}: {what}", path.display());
        let text =
            std::fs::read_to_string(&path).map_err(|error| io::Error::new(error.kind(), told(&error.to_string())))?;
        find(&text, name).ok_or_else(|| {
            let what = format!("has no profile {name:?} with aws_access_key_id and aws_secret_access_key");
            io::Error::new(io::ErrorKind::NotFound, told(&what))
        })
    }

    pub(super) fn find(text: &str, name: &str) -> Option<Profile> {
        let lines = text.lines().map(str::trim);
        let mut of_profile = lines.skip_while(|line| *line != format!("[{name}]")).skip(1);
        let (mut key_id, mut secret, mut token) = (None, None, None);
        for line in of_profile.by_ref().take_while(|line| !line.starts_with('[')) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = Some(value.trim().to_owned());
            match key.trim() {
                "aws_access_key_id" => key_id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
        Some(Profile { key_id: key_id?, secret: secret?, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Child, Command, Stdio};

    /// A server of the S3 protocol with an empty bucket `metrics`; ends with the value.
    struct Server {
        process: Child,
        endpoint: String,
    }

    impl Server {
        fn start() -> Self {
            let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/tools");
            let found = Command::new(tools).arg("python").output().unwrap();
            assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
            let python = String::from_utf8(found.stdout).unwrap();
            let mut command = Command::new(python.trim());
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]).stdin(Stdio::null());
            let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
            let address = lines.find_map(|line| Some(line.split_once("Running on ")?.1.trim().to_owned()));
            std::thread::spawn(move || lines.for_each(drop));
            Self { process, endpoint: address.unwrap() }
        }

        fn bucket(&self) -> Bucket {
            let s3 = S3 { endpoint: Some(self.endpoint.clone()), region: Some("us-east-1".to_owned()), profile: None };
            let open = Bucket::open_with("s3://metrics/a/b", &s3, |builder| {
                builder.with_access_key_id("test").with_secret_access_key("test")
            });
            let bucket = open.unwrap();
            let address = self.endpoint.strip_prefix("http://").unwrap();
            let mut connection = std::net::TcpStream::connect(address).unwrap();
            let request =
                format!("PUT /metrics HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            connection.write_all(request.as_bytes()).unwrap();
            connection.read_to_end(&mut Vec::new()).unwrap();
            bucket
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }

    /// What the engine relies on, whatever the place is.
    fn keeps_its_promises(place: &dyn ArchiveStore) {
        assert_eq!(place.get("f/none").unwrap(), None);
        assert_eq!(place.list("f").unwrap(), Vec::<String>::new());
        place.delete("f/none").unwrap();
        let content: Vec<u8> = (0..PART_LEN * 2 + 12_345).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
        for _ in 0..2 {
            let mut object = place.create("f/_file").unwrap();
            content.chunks(1_000_003).for_each(|piece| object.append(piece).unwrap());
            object.finish().unwrap();
            assert_eq!(place.read("f/_file", 77..200_077).unwrap(), content[77..200_077]);
            place.publish("f/_file", "f/file").unwrap();
            assert_eq!(place.read("f/file", 0..content.len() as u64).unwrap(), content);
            assert_eq!(place.get("f/_file").unwrap(), None);
        }
        drop(place.create("f/_given_up").unwrap());
        assert!(place.put_if("f/small", None, b"one").unwrap());
        assert!(!place.put_if("f/small", None, b"two").unwrap());
        assert!(!place.put_if("f/small", Some(b"two"), b"three").unwrap());
        assert!(place.put_if("f/small", Some(b"one"), b"two").unwrap());
        assert!(!place.put_if("f/other", Some(b"one"), b"two").unwrap());
        assert_eq!(place.get("f/small").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(place.list("f").unwrap(), ["f/file", "f/small"]);
        place.delete("f/small").unwrap();
        assert_eq!(place.get("f/small").unwrap(), None);
        // Of many writers who all find nothing there, one comes first.
        let won: Vec<bool> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8_u8)
                .map(|writer| scope.spawn(move || place.put_if("f/claim", None, &[writer]).unwrap_or(false)))
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert_eq!(won.iter().filter(|&&won| won).count(), 1, "{won:?}");
        let winner = u8::try_from(won.iter().position(|&won| won).unwrap()).unwrap();
        assert_eq!(place.get("f/claim").unwrap(), Some(vec![winner]));
    }

    #[test]
    fn a_bucket_keeps_the_promises_of_a_place() {
        let server = Server::start();
        keeps_its_promises(&server.bucket());
    }

    #[test]
    fn a_directory_keeps_the_promises_of_a_place() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, _) = kymo_engine::disk::open(kymo_engine::disk::IoKind::Posix).unwrap();
        keeps_its_promises(&kymo_engine::archive::LocalDirectory::new(disk, directory.path()));
    }

    #[test]
    fn a_location_has_a_bucket_and_maybe_a_prefix() {
        assert_eq!(parse("s3://metrics"), Some(("metrics", String::new())));
        assert_eq!(parse("s3://metrics/a/b/"), Some(("metrics", "a/b".to_owned())));
        assert_eq!((parse("s3://"), parse("/metrics"), parse("s3:///a")), (None, None, None));
    }

    #[test]
    fn a_profile_is_found_by_its_name_alone() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[x]\naws_access_key_id=C\n\
                    aws_secret_access_key = D=\naws_session_token = E\n[half]\naws_access_key_id=F\n";
        let found = |name| profile::find(text, name).map(|profile| (profile.key_id, profile.secret, profile.token));
        assert_eq!(found("default"), Some(("A".into(), "B".into(), None)));
        assert_eq!(found("x"), Some(("C".into(), "D=".into(), Some("E".into()))));
        assert_eq!((found("half"), found("y")), (None, None));
    }
}
