//! The contract of the port, on every database.

mod sqlite {
    use ravelin_store::SqliteStore;

    macro_rules! each {
        ($($case:ident)*) => { $(
            #[tokio::test]
            async fn $case() {
                let store = SqliteStore::in_memory().expect("a temporary store opens");
                ravelin_model::testkit::store::$case(&store).await;
            }
        )* };
    }
    ravelin_model::for_each_store_case!(each);

    macro_rules! each_of_the_archive {
        ($($case:ident)*) => { $(
            #[tokio::test]
            async fn $case() {
                let store = SqliteStore::in_memory().expect("a temporary store opens");
                ravelin_model::testkit::archive::$case(&store).await;
            }
        )* };
    }
    ravelin_model::for_each_archive_case!(each_of_the_archive);
}
