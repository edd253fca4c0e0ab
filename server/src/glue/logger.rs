//! SPIRE's Logger service: how much this process logs.

use daemon::logs::{self, Level};
use proto::spire::{
    server::logger::v1::{GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_server::Logger},
    types::{LogLevel, Logger as WireLogger},
};
use tonic::{Request, Response, Status};

use super::caller;

/// The service.
pub(crate) struct Service;

#[tonic::async_trait]
impl Logger for Service {
    async fn get_logger(&self, _: Request<GetLoggerRequest>) -> Result<Response<WireLogger>, Status> {
        shown()
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<WireLogger>, Status> {
        let author = caller(&request)?.author();
        let level = match LogLevel::try_from(request.into_inner().new_level) {
            Ok(LogLevel::Unspecified) => {
                return Err(Status::invalid_argument("newLevel value cannot be LogLevel_UNSPECIFIED"));
            }
            Err(_) => return Err(Status::invalid_argument("unsupported log level")),
            // Nothing is logged above error here: whoever asks for less wants silence.
            Ok(LogLevel::Panic | LogLevel::Fatal) => Level::OFF,
            Ok(LogLevel::Error) => Level::ERROR,
            Ok(LogLevel::Warn) => Level::WARN,
            Ok(LogLevel::Info) => Level::INFO,
            Ok(LogLevel::Debug) => Level::DEBUG,
            Ok(LogLevel::Trace) => Level::TRACE,
        };
        // Said before, so that the log itself tells why it falls silent.
        tracing::warn!(?author, %level, "the log level is changed");
        logs::set_level(level).map_err(unavailable)?;
        shown()
    }

    async fn reset_log_level(
        &self,
        request: Request<ResetLogLevelRequest>,
    ) -> Result<Response<WireLogger>, Status> {
        let author = caller(&request)?.author();
        logs::reset_level().map_err(unavailable)?;
        tracing::warn!(?author, "the log level is what it was at the start");
        shown()
    }
}

fn shown() -> Result<Response<WireLogger>, Status> {
    let levels = logs::levels().map_err(unavailable)?;
    Ok(Response::new(WireLogger {
        current_level: wire(levels.current).into(),
        launch_level: wire(levels.launch).into(),
    }))
}

fn wire(level: Level) -> LogLevel {
    match level {
        Level::OFF => LogLevel::Panic,
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

fn unavailable(error: logs::NotLogging) -> Status {
    Status::unavailable(error.to_string())
}
