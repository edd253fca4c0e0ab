//! A server in this process, and agents that know it only by its sockets.

use std::{path::Path, sync::Arc, time::Duration};

use daemon::{Ready, Shutdown, Trigger};
use registry::{LogId, Object, Revision, Stored, objects::well_known};
use rustls::{ClientConfig, pki_types::CertificateDer};
use server::{Config, Serving};
use server_api::{
    CallError, ServerAddress, admin, attest,
    connect::connect,
    node,
    wire::delta::{Change, Followed},
};
use spiffe::{
    Bundle, Bundles, Pin, PrivateKey, SpiffeId, Timestamp,
    tls::{
        Expected, SvidVerifier, client_config, fixed_identity, insecure_client_config_without_server_identity,
    },
    x509::svid,
};
use tempfile::TempDir;
use tonic::transport::Channel;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A server that serves.
pub(crate) struct Host {
    pub(crate) directory: Arc<TempDir>,
    pub(crate) config: Config,
    pub(crate) serving: Serving,
    trigger: Trigger,
    task: tokio::task::JoinHandle<Result<(), server::Error>>,
}

/// The configuration of a server in `directory`, on a free port.
pub(crate) fn config(directory: &Path) -> Config {
    let trust_domain = "acme.example".parse().unwrap();
    let mut config = Config::new(trust_domain, directory.join("state"), directory.join("private"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config
}

impl Host {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let mut config = config(directory.path());
        change(&mut config);
        Self::start_in(directory, config).await.unwrap()
    }

    pub(crate) async fn start_in(directory: Arc<TempDir>, config: Config) -> Result<Self, server::Error> {
        let (trigger, shutdown) = Shutdown::manual();
        let (ready, serving) = Ready::channel();
        let mut task = tokio::spawn(server::run(config.clone(), shutdown, ready));
        tokio::select! {
            Ok(serving) = serving => Ok(Self { directory, config, serving, trigger, task }),
            ended = &mut task => Err(ended.unwrap().unwrap_err()),
        }
    }

    /// Stops it, and starts it again in the same directory.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Result<Self, server::Error> {
        let (directory, mut config) = (self.directory.clone(), self.config.clone());
        change(&mut config);
        self.stop().await;
        Self::start_in(directory, config).await
    }

    pub(crate) async fn stop(self) {
        self.trigger.request();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }

    pub(crate) async fn admin(&self) -> admin::Client {
        admin::Client::connect(&self.serving.socket).await.unwrap()
    }

    pub(crate) fn address(&self) -> ServerAddress {
        self.serving.address.to_string().parse().unwrap()
    }

    pub(crate) async fn token(&self, node: &str) -> String {
        self.admin().await.create_token(node, 600).await.unwrap().token
    }

    /// The bundle, as a stranger with the pin gets it.
    pub(crate) async fn bundle(&self, pin: &Pin) -> Bundle {
        let config = Arc::new(insecure_client_config_without_server_identity().unwrap());
        let mut stranger = node::Client::new(connect(&self.address(), config).await.unwrap());
        stranger.bundle().await.unwrap().verify(pin).unwrap()
    }

    /// A node that joined with a token of its own.
    pub(crate) async fn agent(&self, node: &str) -> Agent {
        let token = self.token(node).await;
        self.join(&token, PrivateKey::generate().unwrap()).await.unwrap()
    }

    pub(crate) async fn join(&self, token: &str, key: PrivateKey) -> Result<Agent, CallError> {
        let bundle = self.bundle(&self.serving.pin).await;
        let bundles: Arc<Bundles> = Arc::new([bundle].into_iter().collect());
        let channel = connect(&self.address(), tls(&bundles, None)).await.unwrap();
        let chain = attest::Client::new(channel).join(token, &csr(&key)).await?;
        Ok(Agent { chain: ders(chain), key, bundles, address: self.address() })
    }

    /// Creates an entry; what the server keeps of it.
    pub(crate) async fn entry(&self, body: serde_json::Value) -> registry::objects::Entry {
        let applied = self.apply(admin::Mode::Create, body).await;
        assert_eq!(applied.refused(), None);
        serde_json::from_slice(&applied.body).unwrap()
    }

    pub(crate) async fn apply(&self, mode: admin::Mode, body: serde_json::Value) -> admin::Applied {
        let bodies = vec![body.to_string().into()];
        self.admin().await.apply(mode, "entry", bodies).await.unwrap().pop().unwrap()
    }
}

/// What a node's agent has after it joined.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKey,
    pub(crate) bundles: Arc<Bundles>,
    pub(crate) address: ServerAddress,
}

impl Agent {
    pub(crate) fn id(&self) -> SpiffeId {
        svid::verify(&self.chain, &self.bundles, now()).unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        connect(&self.address, tls(&self.bundles, Some((&self.chain, &self.key)))).await.unwrap()
    }

    pub(crate) async fn node(&self) -> node::Client {
        node::Client::new(self.channel().await)
    }

    /// The next certificate, under a fresh key.
    pub(crate) async fn renewed(&self) -> Result<Self, CallError> {
        let key = PrivateKey::generate().unwrap();
        let chain = attest::Client::new(self.channel().await).renew(&csr(&key)).await?;
        Ok(Self { chain: ders(chain), key, ..self.clone() })
    }

    /// Has one fresh key signed for each of these entries.
    pub(crate) async fn sign(
        &self,
        entries: &[&str],
    ) -> Result<Vec<Result<node::Chain, node::Unsigned>>, CallError> {
        let orders: Vec<_> = entries.iter().map(|entry| order(entry)).collect();
        self.node().await.sign(&orders).await
    }

    /// Has a token signed for each of these entries and audiences.
    pub(crate) async fn sign_jwt(
        &self,
        orders: &[(&str, &[&str])],
    ) -> Result<Vec<Result<node::Token, node::Unsigned>>, CallError> {
        let order = |(entry, audiences): &(&str, &[&str])| node::JwtOrder {
            entry: entry.parse().unwrap(),
            audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
        };
        self.node().await.sign_jwt(orders.iter().map(order).collect()).await
    }
}

pub(crate) fn order(entry: &str) -> node::Order {
    let public_key = PrivateKey::generate().unwrap().public_key().unwrap();
    node::Order { entry: entry.parse().unwrap(), public_key }
}

/// A view that follows.
pub(crate) struct View {
    follow: node::Follow,
    pub(crate) objects: Vec<Stored>,
    pub(crate) log: LogId,
    pub(crate) at: Revision,
    pub(crate) bundle: Option<Bundle>,
}

impl View {
    pub(crate) async fn follow(agent: &Agent, known: Option<(&LogId, Revision)>) -> Result<Self, CallError> {
        let follow = agent.node().await.follow(known, None).await?;
        let (log, at) = known.map_or((LogId(String::new()), Revision(0)), |(log, at)| (log.clone(), at));
        Ok(Self { follow, objects: Vec::new(), log, at, bundle: None })
    }

    /// The next step; heartbeats count too.
    pub(crate) async fn step(&mut self) -> Result<Option<Followed>, CallError> {
        let step = tokio::time::timeout(SOON, self.follow.next()).await.expect("a step in time")?;
        if let Some(followed) = &step {
            if let Some(signed) = &followed.bundle {
                self.bundle = Some(Bundle::parse(signed.trust_domain.clone(), &signed.document).unwrap());
            }
            match followed.change.clone() {
                Change::Snapshot(snapshot) => {
                    (self.log, self.at, self.objects) = (snapshot.log, snapshot.at, snapshot.objects);
                }
                Change::Delta(delta) => {
                    assert_eq!((&delta.log, delta.from), (&self.log, self.at), "deltas follow without a gap");
                    self.at = delta.to;
                    let changed = |key: &_| {
                        delta.gone.contains(key) || delta.put.iter().any(|p| p.object.key() == *key)
                    };
                    self.objects.retain(|stored| !changed(&stored.object.key()));
                    self.objects.extend(delta.put);
                }
            }
        }
        Ok(step)
    }

    /// Follows until the view holds exactly these entries.
    pub(crate) async fn until_entries(&mut self, ids: &[&str]) {
        while self.entries() != ids {
            self.step().await.unwrap().expect("the stream goes on");
        }
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        let mut ids: Vec<_> = self
            .objects
            .iter()
            .filter_map(|stored| match &stored.object {
                Object::Entry(entry) => Some(entry.id.to_string()),
                _ => None,
            })
            .collect();
        ids.sort();
        ids
    }

    /// Follows until the server ends the stream, and says why.
    pub(crate) async fn until_end(&mut self) -> CallError {
        let end = async {
            loop {
                match self.step().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the stream ended without a word"),
                    Err(error) => return error,
                }
            }
        };
        // Heartbeats would go on for ever.
        tokio::time::timeout(SOON, end).await.expect("the stream ends in time")
    }
}

pub(crate) fn tls(
    bundles: &Arc<Bundles>,
    identity: Option<(&Vec<CertificateDer<'static>>, &PrivateKey)>,
) -> Arc<ClientConfig> {
    let bundles = bundles.clone();
    let server = well_known::server(&"acme.example".parse().unwrap());
    let verifier =
        SvidVerifier::new(Arc::new(move || bundles.clone()), Arc::new(now), Expected::Exactly(server));
    let identity = identity.map(|(chain, key)| {
        let fixed: Arc<dyn rustls::client::ResolvesClientCert> = fixed_identity(chain.clone(), key).unwrap();
        fixed
    });
    Arc::new(client_config(Arc::new(verifier), identity).unwrap())
}

pub(crate) fn csr(key: &PrivateKey) -> Vec<u8> {
    let pair = rcgen::KeyPair::try_from(key.pkcs8()).unwrap();
    rcgen::CertificateParams::default().serialize_request(&pair).unwrap().der().to_vec()
}

pub(crate) fn ders(chain: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    chain.into_iter().map(CertificateDer::from).collect()
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_millis(daemon::now_unix_millis())
}

/// Tries again until it is so; fails when it takes too long.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
