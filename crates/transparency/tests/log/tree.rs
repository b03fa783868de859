use livepatch_transparency::*;
use proptest::prelude::*;

use crate::naive;
use crate::support::Log;

fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| number.to_be_bytes().to_vec()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The reference data of Certificate Transparency (`merkle_tree_test` of github.com/google/certificate-transparency).
#[test]
fn roots_are_those_of_certificate_transparency() {
    let inputs =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let inputs: Vec<_> = inputs.into_iter().map(hex).collect();
    for (size, root) in roots.into_iter().enumerate() {
        assert_eq!(Log::of(inputs[..size].to_vec()).head().root.to_string(), root, "{size} leaves");
    }
}

#[test]
fn every_proof_of_small_trees_is_the_one_of_the_rfc() {
    let all = entries(70);
    for new in 0..=all.len() {
        let log = Log::of(all[..new].to_vec());
        let (size, root) = (new as u64, naive::root(&all[..new]));
        assert_eq!(log.head().root, root);
        for index in 0..new {
            let ranges = inclusion_ranges(index as u64, size);
            let proof = log.tiles(&ranges).hashes(&ranges).unwrap();
            assert_eq!(proof, naive::path(index, &all[..new]));
            let leaf = leaf_hash(&all[index]);
            verify_inclusion(&leaf, index as u64, size, &root, &proof).unwrap();
            for wrong in (0..size + 2).filter(|wrong| *wrong != index as u64) {
                assert!(verify_inclusion(&leaf, wrong, size, &root, &proof).is_err(), "{wrong} for {index}");
            }
        }
        for old in 0..=new {
            let ranges = consistency_ranges(old as u64, size);
            let proof = log.tiles(&ranges).hashes(&ranges).unwrap();
            if old > 0 {
                assert_eq!(proof, naive::proof(old, &all[..new]), "{old} to {new}");
            }
            let old_root = naive::root(&all[..old]);
            verify_consistency((old as u64, &old_root), (size, &root), &proof).unwrap();
            let other = leaf_hash(b"other");
            assert!(verify_consistency((old as u64, &other), (size, &root), &proof).is_err());
            if old > 0 {
                assert!(verify_consistency((old as u64, &old_root), (size, &other), &proof).is_err());
            }
        }
    }
}

#[test]
fn a_frontier_goes_on_where_it_was() {
    let all = entries(40);
    for cut in 0..all.len() as u64 {
        let log = Log::of(all[..cut as usize].to_vec());
        let hashes = log.tiles(std::slice::from_ref(&(0..cut))).subtree_hashes(0..cut).unwrap();
        let mut frontier = Frontier::new(cut, hashes).unwrap();
        for entry in &all[cut as usize..] {
            frontier.append(leaf_hash(entry));
        }
        assert_eq!(frontier.root(), naive::root(&all));
        assert!(Frontier::new(cut + 1, vec![]).is_err());
    }
    assert!(Frontier::new(u64::MAX, vec![empty_root(); 64]).is_err(), "larger than any log");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Beyond one tile, where hashes of level 1 and 2 are used.
    #[test]
    fn proofs_of_larger_trees_come_from_tiles(new in 250usize..1500, at in 0.0f64..1.0) {
        let all = entries(new);
        let log = Log::of(all.clone());
        let (size, root) = (new as u64, naive::root(&all));
        prop_assert_eq!(log.head().root, root);
        let at = (new as f64 * at) as usize;
        let ranges = inclusion_ranges(at as u64, size);
        let proof = log.tiles(&ranges).hashes(&ranges).unwrap();
        prop_assert_eq!(&proof, &naive::path(at, &all));
        verify_inclusion(&leaf_hash(&all[at]), at as u64, size, &root, &proof).unwrap();
        let ranges = consistency_ranges(at as u64, size);
        let proof = log.tiles(&ranges).hashes(&ranges).unwrap();
        let old = naive::root(&all[..at]);
        verify_consistency((at as u64, &old), (size, &root), &proof).unwrap();
    }

    /// Whatever numbers somebody sends: no panic, no endless loop, and what is refused is refused.
    #[test]
    fn any_numbers_are_survived(a in any::<u64>(), b in any::<u64>(), level in any::<u8>(), width in any::<u16>()) {
        let size = a.min(MAX_SIZE);
        let ranges = inclusion_ranges(b, size);
        prop_assert!(ranges.len() <= 63);
        prop_assert!(Tiles::new(size).wanted(&ranges).len() <= 63 * 63);
        prop_assert!(consistency_ranges(b, size).len() <= 64);
        let root = leaf_hash(b"");
        prop_assert!(verify_inclusion(&root, b, size, &empty_root(), &[]).is_err());
        prop_assert!(verify_consistency((b, &root), (size, &empty_root()), &[]).is_err());
        if let Ok(tile) = Tile::new(level, b, width) {
            prop_assert_eq!(Resource::parse(&tile.to_string()), Ok(Resource::Hashes(tile)));
        }
    }
}
