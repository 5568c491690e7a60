//! A cloud for the tests that keeps sizes alone, and is as strict about parts as S3 is.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

const LEAST: usize = 5 << 20;
const MOST: usize = 5 << 30;
const PARTS: usize = 10_000;

/// The cloud.
#[derive(Debug, Default, Clone)]
pub struct Strict(Arc<Mutex<Sizes>>);

#[derive(Debug, Default)]
struct Sizes {
    parts: HashMap<usize, usize>,
    objects: HashMap<String, usize>,
}

impl Strict {
    /// The sizes of an upload's parts must be equal but for the last.
    fn put(&self, index: usize, bytes: usize) -> Result<PartId> {
        if index >= PARTS || bytes > MOST {
            return Err(refused());
        }
        self.0.lock().unwrap().parts.insert(index, bytes);
        Ok(PartId { content_id: index.to_string() })
    }

    fn complete(&self, path: &Path, count: usize) -> Result<PutResult> {
        let mut sizes = self.0.lock().unwrap();
        let parts: Vec<usize> = (0..count).map(|index| sizes.parts[&index]).collect();
        let (_, body) = parts.split_last().ok_or_else(refused)?;
        if body.iter().any(|bytes| *bytes < LEAST || *bytes != parts[0]) {
            return Err(refused());
        }
        let whole = parts.iter().sum();
        sizes.objects.insert(path.to_string(), whole);
        Ok(result())
    }

    pub fn parts(&self) -> usize {
        self.0.lock().unwrap().parts.len()
    }
}

fn refused() -> Error {
    Error::PermissionDenied { path: String::new(), source: "InvalidArgument".into() }
}

fn result() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: object_store::Extensions::default() }
}

impl fmt::Display for Strict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strict")
    }
}

#[async_trait]
impl MultipartStore for Strict {
    async fn create_multipart(&self, _: &Path) -> Result<MultipartId> {
        Ok("id".into())
    }

    async fn put_part(&self, _: &Path, _: &MultipartId, index: usize, data: PutPayload) -> Result<PartId> {
        self.put(index, data.content_length())
    }

    async fn complete_multipart(&self, path: &Path, _: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        self.complete(path, parts.len())
    }

    async fn abort_multipart(&self, _: &Path, _: &MultipartId) -> Result<()> {
        self.0.lock().unwrap().parts.clear();
        Ok(())
    }
}

/// An upload as `object_store` itself makes it.
#[derive(Debug)]
struct Plain {
    cloud: Strict,
    path: Path,
    next: usize,
}

#[async_trait]
impl MultipartUpload for Plain {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let result = self.cloud.put(self.next, data.content_length()).map(drop);
        self.next += 1;
        Box::pin(std::future::ready(result))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.cloud.complete(&self.path, self.next)
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for Strict {
    async fn put_opts(&self, path: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        self.0.lock().unwrap().objects.insert(path.to_string(), payload.content_length());
        Ok(result())
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Plain { cloud: self.clone(), path: path.clone(), next: 0 }))
    }

    async fn get_opts(&self, path: &Path, _: GetOptions) -> Result<GetResult> {
        let size = self.0.lock().unwrap().objects.get(path.as_ref()).copied();
        let size = size.ok_or_else(|| Error::NotFound { path: path.to_string(), source: "none".into() })? as u64;
        let last_modified = std::time::SystemTime::UNIX_EPOCH.into();
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::empty().boxed()),
            meta: ObjectMeta { location: path.clone(), last_modified, size, e_tag: None, version: None },
            range: 0..size,
            attributes: object_store::Attributes::default(),
            extensions: object_store::Extensions::default(),
        })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        paths
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::empty().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Ok(ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
            extensions: object_store::Extensions::default(),
        })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused())
    }
}
