//! The attestors that this program brings along: one line each.

use std::sync::Arc;

use peer::Executions;

use crate::{
    BadConfig, Config, News, WorkloadAttestor,
    executables::Executables,
    workload::{
        binary::Binary,
        cgroup::Cgroup,
        docker::Docker,
        k8s::K8s,
        launch::{Launch, Launches},
        process::Process,
        systemd::Systemd,
        unix::Unix,
    },
};

pub(crate) fn workload(
    config: &Config,
    executions: Option<Arc<Executions>>,
    launches: &Arc<Launches>,
    news: &Arc<News>,
) -> Result<Vec<Box<dyn WorkloadAttestor>>, BadConfig> {
    let executables = Arc::new(Executables::new(executions, config.executables));
    Ok(vec![
        Box::new(Unix::new(Arc::clone(&executables))),
        Box::new(Docker::new(&config.docker)?),
        Box::new(K8s::new(config.k8s.as_ref(), Arc::clone(news))?),
        Box::new(Systemd::new(&config.systemd)),
        Box::new(Cgroup::new()),
        Box::new(Process::new(Arc::clone(&executables))),
        Box::new(Binary::new(executables)),
        Box::new(Launch::new(Arc::clone(launches))),
    ])
}
