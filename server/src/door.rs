//! The layer between a connection and the services: every request is admitted by the caller table,
//! and only then read.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use server_api::accept::ConnectionPeer;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{
    callers::{Origin, admit},
    ledger::Ledger,
    local::LocalPeer,
};

/// Puts the caller table in front of services.
#[derive(Clone)]
pub(crate) struct Door(pub(crate) Ledger);

/// A service behind the table.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    ledger: Ledger,
    inner: S,
}

impl<S> Layer<S> for Door {
    type Service = Guarded<S>;
    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { ledger: self.0.clone(), inner }
    }
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let ledger = self.ledger.clone();
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh); // the one that said it is ready
        Box::pin(async move {
            let (path, origin) = (request.uri().path().to_owned(), origin(&request));
            let admitted = match origin {
                Some(origin) => admit(&ledger, &path, &origin).await,
                None => Err(Status::internal("a connection without a peer")),
            };
            match admitted {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

fn origin(request: &Request<Body>) -> Option<Origin> {
    let extensions = request.extensions();
    let local = extensions.get::<LocalPeer>().cloned().map(Origin::Local);
    local.or_else(|| extensions.get::<ConnectionPeer>().cloned().map(Origin::Network))
}
