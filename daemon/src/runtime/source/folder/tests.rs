//! Tests of the folder source without a BGP engine.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::core::allocate::Allocation;
use crate::core::api::{Kind, ObjectName};
use crate::core::config::ConfigPlaces;
use crate::core::index::change::Change;
use crate::core::index::{Dirty, Index};
use crate::runtime::source::{Event, Source, folder};
use tokio::time::timeout;

const CONFIG: &str = "metallb-system";
const QUIET: Duration = Duration::from_millis(300);

fn start(path: &Path) -> Source {
    folder::start(path.to_owned(), ConfigPlaces::of(&[CONFIG.to_owned()]))
        .expect("a folder that can be watched")
}

fn write(folder: &Path, name: &str, text: &str) {
    let new = folder.join(".new");
    fs::write(&new, text).expect("written");
    fs::rename(new, folder.join(name)).expect("renamed");
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}\n---\n"
    )
}

const POOL: &str = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: pool}\n\
                    spec: {addresses: [192.0.2.0/23]}\n---\n";

/// Applies events until there are no more, and allocates like the control loop. Returns their
/// number.
async fn settle(source: &mut Source, index: &mut Index, allocation: &mut Allocation) -> usize {
    let mut events = 0;
    let mut dirty = Dirty::default();
    while let Ok(Some(event)) = timeout(QUIET, source.events.recv()).await {
        events += 1;
        if let Event::Change(change) = event {
            dirty.merge(index.apply(change));
        }
        if index.is_synced(&Kind::ALL) {
            let dirty = std::mem::take(&mut dirty);
            for write in allocation.decide(index, &dirty).writes {
                source.status.send(write).expect("the source takes it");
            }
        }
    }
    events
}

fn addresses(index: &Index, name: &str) -> String {
    let service = index
        .service(&ObjectName::new("default", name))
        .expect("a service");
    format!("{:?}", service.addresses())
}

#[tokio::test]
async fn hundreds_of_services_are_allocated() {
    let folder = tempfile::tempdir().expect("a folder");
    let services: String = (0..300)
        .map(|number| service(&format!("s{number}")))
        .collect();
    write(folder.path(), "all.yaml", &format!("{POOL}{services}"));
    let mut source = start(folder.path());
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    let allocated = index
        .services()
        .filter(|service| service.addresses().len() == 1)
        .count();
    assert_eq!(allocated, 300);
}

#[tokio::test]
async fn an_unchanged_folder_is_not_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "all.yaml", POOL);
    let mut source = start(folder.path());
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    let read = || fs::read_to_string("/proc/thread-self/io").expect("counters of this thread");
    let octets = |text: &str| -> u64 {
        let line = text
            .lines()
            .find(|line| line.starts_with("rchar"))
            .expect("octets read");
        line.rsplit(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number")
    };
    let before = octets(&read());
    assert_eq!(settle(&mut source, &mut index, &mut allocation).await, 0);
    // Reading the counters takes a few hundred octets; reading the folder repeatedly would take far
    // more.
    assert!(octets(&read()) - before < 4096);
}

#[tokio::test]
async fn a_status_is_deleted_with_its_service_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: \
     s2}\naddressType: IPv4\n";
    write(folder.path(), "pool.yaml", POOL);
    write(folder.path(), "s1.yaml", &service("s1"));
    write(folder.path(), "s2.yaml", &service("s2"));
    write(folder.path(), "slice.yaml", slice);
    let mut source = start(folder.path());
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    assert_eq!(addresses(&index, "s2"), "[192.0.2.1]");
    fs::remove_file(folder.path().join("s1.yaml")).expect("removed");
    fs::remove_file(folder.path().join("slice.yaml")).expect("removed");
    settle(&mut source, &mut index, &mut allocation).await;
    let labelled = service("s2").replace("{name: s2}", "{name: s2, labels: {a: b}}");
    write(folder.path(), "s2.yaml", &labelled);
    settle(&mut source, &mut index, &mut allocation).await;
    assert_eq!(addresses(&index, "s2"), "[192.0.2.1]");
}

#[tokio::test]
async fn an_invalid_file_is_reported_and_deletes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "all.yaml", POOL);
    let mut source = start(folder.path());
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    write(folder.path(), "all.yaml", "spec: [");
    let errors = loop {
        match timeout(Duration::from_secs(10), source.events.recv()).await {
            Ok(Some(Event::Errors(errors))) => break errors,
            Ok(Some(Event::Change(Change::Delete(key)))) => panic!("{key} was deleted"),
            Ok(Some(_)) => {}
            other => panic!("no errors were sent: {other:?}"),
        }
    };
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("all.yaml:1"), "{errors:?}");
    write(folder.path(), "all.yaml", POOL);
    let resolved = timeout(Duration::from_secs(10), source.events.recv()).await;
    assert!(
        matches!(&resolved, Ok(Some(Event::Errors(errors))) if errors.is_empty()),
        "{resolved:?}"
    );
}

/// Applies events until `done`.
async fn settle_until(source: &mut Source, index: &mut Index, done: impl Fn(&Index) -> bool) {
    let all = async {
        while !done(index) {
            if let Some(Event::Change(change)) = source.events.recv().await {
                index.apply(change);
            }
        }
    };
    timeout(Duration::from_secs(20), all)
        .await
        .expect("in time");
}

fn names(index: &Index) -> Vec<String> {
    index
        .services()
        .map(|service| service.name.name.clone())
        .collect()
}

#[tokio::test]
async fn a_file_that_is_being_written_deletes_nothing_until_it_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.yaml");
    fs::write(&path, [service("s1"), service("s2")].concat()).expect("written");
    let mut source = start(folder.path());
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    // Truncates the file. Its content is valid at every moment.
    let mut file = fs::File::create(&path).expect("opened");
    file.write_all(service("s1").as_bytes()).expect("written");
    assert_eq!(settle(&mut source, &mut index, &mut allocation).await, 0);
    assert_eq!(names(&index), ["s1", "s2"]);
    file.write_all(service("s3").as_bytes()).expect("written");
    drop(file);
    settle_until(&mut source, &mut index, |index| {
        names(index) == ["s1", "s3"]
    })
    .await;
}

#[tokio::test]
async fn a_file_that_becomes_empty_deletes_nothing_for_five_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.yaml");
    fs::write(&path, service("s1")).expect("written");
    let mut source = start(folder.path());
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    fs::write(&path, "").expect("truncated");
    assert_eq!(settle(&mut source, &mut index, &mut allocation).await, 0);
    assert_eq!(names(&index), ["s1"]);
    fs::write(&path, [service("s1"), service("s2")].concat()).expect("written");
    settle_until(&mut source, &mut index, |index| {
        names(index) == ["s1", "s2"]
    })
    .await;
    // A file that stays empty was emptied on purpose.
    fs::write(&path, "").expect("truncated");
    settle_until(&mut source, &mut index, |index| names(index).is_empty()).await;
}

#[tokio::test]
async fn a_deleted_folder_deletes_nothing_and_is_watched_again() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("manifests");
    let sub = folder.join("sub");
    fs::create_dir_all(&sub).expect("created");
    write(&folder, "s1.yaml", &service("s1"));
    write(&sub, "s2.yaml", &service("s2"));
    let mut source = start(&folder);
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    fs::rename(&folder, parent.path().join("old")).expect("renamed");
    settle(&mut source, &mut index, &mut allocation).await;
    assert_eq!(names(&index), ["s1", "s2"]);
    fs::create_dir_all(&sub).expect("created");
    write(&sub, "s3.yaml", &service("s3"));
    settle_until(&mut source, &mut index, |index| names(index) == ["s3"]).await;
    write(&folder, "s4.yaml", &service("s4"));
    write(&sub, "s5.yaml", &service("s5"));
    settle_until(&mut source, &mut index, |index| {
        names(index) == ["s3", "s4", "s5"]
    })
    .await;
}

#[tokio::test]
async fn pipes_and_links_to_a_parent_folder_are_skipped() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "s1.yaml", &service("s1"));
    for name in ["a", "b"] {
        let sub = folder.path().join(name);
        fs::create_dir(&sub).expect("created");
        std::os::unix::fs::symlink(folder.path(), sub.join("up")).expect("linked");
        std::os::unix::fs::symlink("/dev/zero", sub.join("zero.yaml")).expect("linked");
    }
    let pipe = folder.path().join("pipe.yaml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let mut source = start(folder.path());
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    assert_eq!(names(&index), ["s1"]);
    write(&folder.path().join("b"), "s2.yaml", &service("s2"));
    settle_until(&mut source, &mut index, |index| {
        names(index) == ["s1", "s2"]
    })
    .await;
}
