//! gRPC reflection: what the socket serves, for tools that ask. Built when the first one does.

use std::{convert::Infallible, sync::LazyLock};

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::{body::Body, codegen::Service};
use tonic_reflection::server::Builder;

use crate::limits::REQUEST_BYTES;

type Answer = Box<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

static V1: LazyLock<Answer> = LazyLock::new(|| {
    let server = services().build_v1().expect("the build wrote the descriptors");
    answering(server.max_decoding_message_size(REQUEST_BYTES))
});

/// The protocol's name before it was settled; most tools still try it.
static V1_ALPHA: LazyLock<Answer> = LazyLock::new(|| {
    let server = services().build_v1alpha().expect("the build wrote the descriptors");
    answering(server.max_decoding_message_size(REQUEST_BYTES))
});

/// Answers `grpc.reflection.v1`.
pub(crate) async fn v1(request: Request<Incoming>) -> Response<Body> {
    (*V1)(request).await
}

/// Answers `grpc.reflection.v1alpha`.
pub(crate) async fn v1_alpha(request: Request<Incoming>) -> Response<Body> {
    (*V1_ALPHA)(request).await
}

fn services() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(proto::WORKLOAD_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn answering<S>(server: S) -> Answer
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Box::new(move |request| {
        let answer = server.clone().call(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    })
}
