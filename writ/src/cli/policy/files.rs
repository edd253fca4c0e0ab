//! Policies in a directory.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use authz::policy::Owners;
use registry::{
    decide::policy::{MAX_FILE, MAX_LAYER},
    objects::{Layer, Lowers, Policy, PolicyId, TenantName},
    scope::ResourceName,
};
use spiffe::Timestamp;

/// All files of a layer that has a directory.
pub(crate) struct Layered {
    pub(crate) layer: Layer,
    pub(crate) policies: Vec<Policy>,
}

/// Without a server nobody knows whose an actor is; the server asks again when it is pushed.
pub(crate) struct Unknown;

impl Owners for Unknown {
    fn of_actor(&self, _: &str) -> Option<TenantName> {
        None
    }
    fn of_resource(&self, _: &ResourceName) -> Option<TenantName> {
        None
    }
}

/// Reads every layer of a directory. What belongs to none is an error: nobody should believe that it was pushed.
pub(crate) fn read(directory: &Path) -> Result<Vec<Layered>> {
    let mut layers = Vec::new();
    for path in entries(directory)? {
        match name(&path)?.as_str() {
            "platform" => layers.push(layer(Layer::Platform, &path)?),
            "actor" | "resource" => {
                for tenant in entries(&path)? {
                    let owner: TenantName =
                        name(&tenant)?.parse().with_context(|| tenant.display().to_string())?;
                    let of =
                        if name(&path)? == "actor" { Layer::Actor(owner) } else { Layer::Resource(owner) };
                    layers.push(layer(of, &tenant)?);
                }
            }
            other => bail!(
                "{} holds {other:?}, which is no layer: platform, actor or resource",
                directory.display()
            ),
        }
    }
    Ok(layers)
}

fn layer(layer: Layer, directory: &Path) -> Result<Layered> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut lowers: BTreeMap<String, Lowers> = BTreeMap::new();
    let mut bytes = 0;
    for path in entries(directory)? {
        let file = name(&path)?;
        let text = contents(&path)?;
        bytes += text.len();
        ensure!(bytes <= MAX_LAYER, "the layer {layer} has more than {MAX_LAYER} bytes");
        if let Some(name) = file.strip_suffix(".cedar") {
            texts.insert(name.to_owned(), text);
        } else if let Some(name) = file.strip_suffix(".lowers.yaml") {
            let read = serde_norway::from_str(&text).with_context(|| path.display().to_string())?;
            lowers.insert(name.to_owned(), read);
        } else {
            bail!("{} is neither NAME.cedar nor NAME.lowers.yaml", path.display());
        }
    }
    let mut policies = Vec::new();
    for (name, text) in texts {
        let id: PolicyId = format!("{layer}/{name}").parse()?;
        policies.push(Policy {
            lowers: lowers.remove(&name).unwrap_or_default(),
            id,
            text,
            pushed_at: Timestamp::default(),
        });
    }
    match lowers.keys().next() {
        Some(name) => bail!("{}/{name}.lowers.yaml has no {name}.cedar beside it", directory.display()),
        None => Ok(Layered { layer, policies }),
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let list = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = list().with_context(|| format!("cannot list {}", directory.display()))?;
    paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).with_context(|| format!("{} has no readable name", path.display()))
}

fn contents(path: &Path) -> Result<String> {
    use io::Read as _;
    let mut text = String::new();
    let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let most = MAX_FILE as u64;
    file.take(most + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.len() as u64 <= most, "{} is larger than {most} bytes", path.display());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    #[test]
    fn each_directory_is_a_layer_and_each_file_a_policy() {
        let files = written(&[
            ("platform/lab.cedar", "// forbids nothing"),
            ("platform/lab.lowers.yaml", "egress: [2, 3]"),
            ("actor/acme/base.cedar", "permit(principal, action, resource);"),
            ("resource/acme/files.cedar", "permit(principal, action, resource);"),
        ]);
        let layers = read(files.path()).unwrap();
        let names: Vec<_> = layers
            .iter()
            .flat_map(|layer| layer.policies.iter().map(|policy| policy.id.to_string()))
            .collect();
        assert_eq!(names, ["actor/acme/base", "platform/lab", "resource/acme/files"]);
        assert_eq!(layers[1].policies[0].lowers.egress.len(), 2);
    }

    #[test]
    fn what_would_not_be_pushed_is_an_error() {
        for (files, says) in [
            (vec![("polices/a.cedar", "")], "no layer"),
            (vec![("platform/a.txt", "")], "neither"),
            (vec![("platform/a.lowers.yaml", "egress: [2]")], "no a.cedar"),
            (vec![("platform/a.cedar", ""), ("platform/a.lowers.yaml", "egres: [2]")], "egres"),
            (vec![("actor/Acme!/a.cedar", "")], "tenant"),
        ] {
            let error = format!("{:#}", read(written(&files).path()).map(|_| ()).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
