//! A folder of manifests as a running source, without a BGP engine: what it tells, and what it does not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ferrolb::allocation::Allocation;
use ferrolb::api::{Kind, ObjectName};
use ferrolb::index::Index;
use ferrolb::source::{Change, Event, Source, folder};
use tokio::time::timeout;

const CONFIG: &str = "metallb-system";
const QUIET: Duration = Duration::from_millis(300);

fn start(path: &Path) -> Source {
    folder::start(path.to_owned(), vec![CONFIG.to_owned()]).expect("a folder that can be watched")
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

/// Takes in everything until it is quiet, and tells how many events that were. Allocates as the loop does.
async fn settle(source: &mut Source, index: &mut Index, allocation: &mut Allocation) -> usize {
    let mut events = 0;
    while let Ok(Some(event)) = timeout(QUIET, source.events.recv()).await {
        events += 1;
        if let Event::Change(change) = event {
            index.apply(change);
        }
        if index.is_synced(&Kind::ALL) {
            for write in allocation.decide(index).1 {
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
async fn hundreds_of_services_get_their_addresses() {
    let folder = tempfile::tempdir().expect("a folder");
    let services: String = (0..300)
        .map(|number| service(&format!("s{number}")))
        .collect();
    write(folder.path(), "all.yaml", &format!("{POOL}{services}"));
    let mut source = start(folder.path());
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    let held = index
        .services()
        .filter(|service| service.addresses().len() == 1)
        .count();
    assert_eq!(held, 300);
}

#[tokio::test]
async fn a_folder_at_rest_tells_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "all.yaml", POOL);
    let mut source = start(folder.path());
    let (mut index, mut allocation) = (Index::default(), Allocation::default());
    settle(&mut source, &mut index, &mut allocation).await;
    let read = || fs::read_to_string("/proc/self/io").expect("this process's own counters");
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
    // Our own reading of the counters is a few hundred octets; reading the folder again and again is far more.
    assert!(octets(&read()) - before < 4096);
}

#[tokio::test]
async fn a_status_goes_with_its_service_and_with_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s2}\naddressType: IPv4\n";
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
async fn a_file_that_can_not_be_read_is_told_and_deletes_nothing() {
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
            other => panic!("no errors were told: {other:?}"),
        }
    };
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("all.yaml:1"), "{errors:?}");
    write(folder.path(), "all.yaml", POOL);
    let mended = timeout(Duration::from_secs(10), source.events.recv()).await;
    assert!(
        matches!(&mended, Ok(Some(Event::Errors(errors))) if errors.is_empty()),
        "{mended:?}"
    );
}
