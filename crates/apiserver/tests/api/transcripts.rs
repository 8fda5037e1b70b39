//! Every file of `tests/transcripts` holds. One test a file.

use crate::transcript::{folder, hold};

macro_rules! topics {
    ($($topic:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $topic() {
                hold(stringify!($topic)).await;
            }
        )*

        #[test]
        fn every_file_is_held() {
            let mut topics = vec![$(stringify!($topic)),*];
            topics.sort_unstable();
            let mut files: Vec<String> = std::fs::read_dir(folder())
                .unwrap()
                .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".http").map(str::to_owned))
                .collect();
            files.sort_unstable();
            assert_eq!(topics, files);
        }
    };
}

topics!(
    lists,
    watches,
    writes,
    deletes,
    apply,
    strategic,
    negotiation,
    options,
    protobuf
);
