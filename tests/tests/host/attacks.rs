//! Attacks over TLS on a whole host whose operator and vendor are both pinned. Each test first sees the same livepatch loaded
//! when nobody attacks; then the attack: refused with this word, nothing loaded, what runs untouched. When the attack is over,
//! the livepatch is loaded after all: it was delayed, and nothing else.

mod connection;
mod documents;
mod metadata;
mod peers;

use crate::repository::{Files, Repository};
use crate::support::*;
use crate::vendor::{module_of, publish, with_vendor};

/// A host that runs 1.1, which operator and vendor both allow.
struct Scene {
    site: Site,
    host: Host,
    daemons: Daemons,
    repository: Repository,
}

impl Scene {
    async fn new() -> Self {
        Self::after(|_, _| ()).await
    }

    /// The same, after something was done to the host before it was enrolled.
    async fn after(prepare: impl FnOnce(&Site, &mut Host)) -> Self {
        let (site, mut host, mut repository) = with_vendor().await;
        prepare(&site, &mut host);
        publish(&site, 1, "1.1", repository.allow("1.1", &module_of("1.1")));
        let daemons = host.enabled().await;
        let scene = Self { site, host, daemons, repository };
        scene.untouched();
        scene
    }

    /// Operator and vendor both allow 1.2.
    fn offer(&mut self) {
        publish(&self.site, 2, "1.2", self.repository.allow("1.2", &module_of("1.2")));
    }

    /// The operator's document says that there is newer metadata, and the server has these files of it.
    fn serve(&mut self, files: Files) {
        let mut document = document(&kernel(1), 3, Some(self.site.target("1.2", &kernel(1))));
        let mut named = self.repository.named();
        named.timestamp.version += 100;
        document.vendor = Some(named);
        self.site.publish(&document);
        self.site.shelf.lock().unwrap().vendor = files;
    }

    /// 1.1 runs as before, and nothing else was ever loaded.
    fn untouched(&self) {
        assert_eq!(self.host.livepatches(), ["livepatch_1_1"]);
        assert_eq!(self.host.kernel.loads().len(), 1);
    }

    /// Asks twice, and once more after both daemons were started anew: this is the answer, and the status has a problem.
    async fn refused(&mut self, expected: &str) {
        for _ in 0..2 {
            assert_eq!(code(self.daemons.refresh().await), expected);
            assert!(self.daemons.status().problem.is_some(), "{expected}");
            self.untouched();
        }
        self.daemons = self.host.agent();
        // Why it does less than it might is told by the next question.
        let _ = self.daemons.start().await;
        assert_eq!(code(self.daemons.refresh().await), expected, "after a restart");
        self.untouched();
    }

    /// Nobody attacks any more.
    async fn over(mut self) {
        self.site.shelf.lock().unwrap().tricks.clear();
        publish(&self.site, 9, "1.2", self.repository.release());
        self.loaded().await;
    }

    async fn loaded(&self) {
        assert_eq!(code(self.daemons.refresh().await), "ok");
        assert_eq!(
            (self.host.livepatches(), self.daemons.status().problem),
            (vec!["livepatch_1_2".to_owned()], None)
        );
    }
}

/// What every attack starts from, and comes to when there is none.
async fn unattacked() -> Scene {
    let mut scene = Scene::new().await;
    scene.offer();
    scene.loaded().await;
    let mut scene = Scene::new().await;
    scene.offer();
    scene
}
