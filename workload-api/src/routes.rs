//! Which method is answered where.

use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use peer::Process;
use tonic::{Status, body::Body, codegen::Service as _};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{
    Limits, Source,
    begin_task::begin_task,
    call::Call,
    end_task::end_task,
    explain::explain,
    fetch_jwt_bundles::fetch_jwt_bundles,
    fetch_jwt_svid::fetch_jwt_svid,
    fetch_x509_bundles::fetch_x509_bundles,
    fetch_x509_svid::fetch_x509_svid,
    grpc, headers,
    launch::launch,
    limits::REQUEST_BYTES,
    reflection,
    refusal::Refusal,
    refused::Refused,
    session::{Queue, Session},
    socket::{Cap, Line, Place, Service},
    task_token::task_token,
    validate_jwt_svid::validate_jwt_svid,
    watch_tasks::watch_tasks,
    wire,
};

/// Everything that is served on the workload socket.
pub struct WorkloadApi<S> {
    pub(crate) source: Arc<S>,
    pub(crate) limits: Limits,
    pub(crate) queue: Queue,
    requests_of_user: Arc<Cap<u32>>,
    requests_of_process: Arc<Cap<Process>>,
    waiting_of_user: Arc<Cap<u32>>,
    refused: Refused,
    health: HealthServer<HealthService>,
}

/// One open request of a process and its user.
pub struct RequestPlace(#[expect(dead_code, reason = "held, not read")] (Place<u32>, Place<Process>));

impl<S: Source> WorkloadApi<S> {
    /// The API as `source` answers it.
    pub fn new(source: Arc<S>, limits: Limits) -> Self {
        Self {
            source,
            limits,
            queue: Queue::default(),
            requests_of_user: Cap::new(limits.requests_per_uid),
            requests_of_process: Cap::new(limits.requests_per_process),
            waiting_of_user: Cap::new(limits.waiting_per_uid),
            refused: Refused::default(),
            health: HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()))
                .max_decoding_message_size(REQUEST_BYTES),
        }
    }

    /// A seat for a process that waits for an identity; `None` for one that asks for the first time,
    /// and where its user has too many waiting.
    pub(crate) fn seat(&self, session: &Session<S>) -> Option<Place<u32>> {
        let uid = session.uid();
        if self.refused.is_first(uid, session.line.peer().process()) {
            return None;
        }
        self.waiting_of_user.take(uid)
    }

    /// Notes that the process at the other end was served.
    pub(crate) fn served(&self, session: &Session<S>) {
        self.refused.forget(session.uid(), session.line.peer().process());
    }

    async fn workload_api(
        self: Arc<Self>,
        session: Arc<Session<S>>,
        method: &str,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Response<Body>, Status> {
        if !headers::has_security_header(headers) {
            return Err(Refusal::NoSecurityHeader.into());
        }
        let call = Call { api: self, session, timeout: headers::timeout(headers) };
        match method {
            "FetchX509SVID" => {
                read_empty_request(body).await?;
                Ok(grpc::messages(fetch_x509_svid(call).await?))
            }
            "FetchX509Bundles" => {
                read_empty_request(body).await?;
                Ok(grpc::messages(fetch_x509_bundles(call).await?))
            }
            "FetchJWTSVID" => {
                let message = grpc::read_message(body).await?;
                Ok(grpc::message(fetch_jwt_svid(call, &message).await?))
            }
            "FetchJWTBundles" => {
                read_empty_request(body).await?;
                Ok(grpc::messages(fetch_jwt_bundles(call).await?))
            }
            "ValidateJWTSVID" => {
                let message = grpc::read_message(body).await?;
                Ok(grpc::message(validate_jwt_svid(call, &message).await?))
            }
            _ => Err(Refusal::NoSuchMethod.into()),
        }
    }
}

impl<S: Source> WorkloadApi<S> {
    async fn tasks(
        &self,
        session: &Session<S>,
        method: &str,
        body: Incoming,
    ) -> Result<Response<Body>, Status> {
        let message = grpc::read_message(body).await?;
        match method {
            "Begin" => Ok(grpc::message(begin_task(self, session, &message).await?)),
            "Watch" => Ok(grpc::messages(watch_tasks(self, session)?)),
            "End" => Ok(grpc::message(end_task(self, session, &message).await?)),
            "Token" => Ok(grpc::message(task_token(self, session, &message).await?)),
            _ => Err(Refusal::NoSuchMethod.into()),
        }
    }
}

impl<S: Source> Service for WorkloadApi<S> {
    type Session = Session<S>;
    type Place = RequestPlace;

    fn open(&self, line: Arc<Line>) -> Option<Session<S>> {
        Some(Session::new(line))
    }

    fn admit(&self, session: &Session<S>) -> Result<RequestPlace, Box<Response<Body>>> {
        let refuse = |of| Box::new(Status::from(Refusal::TooMany(of)).into_http());
        let process = session.line.peer().process();
        let of_process = self.requests_of_process.take(process).ok_or_else(|| refuse("process"))?;
        let of_user = self.requests_of_user.take(session.uid()).ok_or_else(|| refuse("user"))?;
        Ok(RequestPlace((of_user, of_process)))
    }

    async fn answer(self: Arc<Self>, session: Arc<Session<S>>, request: Request<Incoming>) -> Response<Body> {
        if !is_grpc(request.headers()) {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let path = request.uri().path().to_owned();
        let answer = match path.trim_start_matches('/').rsplit_once('/') {
            Some(("SpiffeWorkloadAPI", method)) => {
                let (head, body) = request.into_parts();
                self.workload_api(session, method, &head.headers, body).await
            }
            Some(("writ.explain.v1.Explain", "Explain")) => {
                match grpc::read_message(request.into_body()).await {
                    Ok(message) => explain(&self, &session, &message).await.map(grpc::message),
                    Err(status) => Err(status),
                }
            }
            Some(("writ.launch.v1.Launch", "Run")) => match grpc::read_message(request.into_body()).await {
                Ok(message) => launch(&self, &session, &message).map(grpc::messages),
                Err(status) => Err(status),
            },
            Some(("writ.task.v1.Tasks", method)) => self.tasks(&session, method, request.into_body()).await,
            Some(("grpc.health.v1.Health", _)) => match self.health.clone().call(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            },
            Some(("grpc.reflection.v1.ServerReflection", _)) => Ok(reflection::v1(request).await),
            Some(("grpc.reflection.v1alpha.ServerReflection", _)) => Ok(reflection::v1_alpha(request).await),
            _ => Err(Refusal::NoSuchMethod.into()),
        };
        answer.unwrap_or_else(Status::into_http)
    }
}

async fn read_empty_request(body: Incoming) -> Result<(), Status> {
    let message = grpc::read_message(body).await?;
    if wire::is_empty_request(&message) { Ok(()) } else { Err(Refusal::Unreadable.into()) }
}

/// Everything else on HTTP/2 is not for us.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
