//! The header that the Workload Endpoint standard demands, exactly.

use integration_tests::Writ;
use integration_tests::workload::Workload;
use tonic::Code;

use crate::own_uid;

#[tokio::test(flavor = "multi_thread")]
async fn only_exactly_one_lower_case_true_is_the_header() {
    let writ = Writ::up();
    writ.entry("/header", &[&own_uid()]);
    const NAME: &str = "workload.spiffe.io";
    for wrong in [
        &[][..],
        &[(NAME, "false")],
        &[(NAME, "TRUE")],
        &[(NAME, "True")],
        &[(NAME, "")],
        &[(NAME, "true "), (NAME, "true")],
        &[(NAME, "true"), (NAME, "true")],
        &[(NAME, "true, true")],
        &[("workload-spiffe-io", "true")],
    ] {
        let workload = Workload::connect(&writ.workload_socket()).await;
        let answer = workload.watch_with(wrong).next().await;
        let status = answer.expect_err("a request without the header is refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}: {status}");
        assert!(status.message().contains("security header missing"), "{wrong:?}: {status}");
        // The connection lives on.
        assert!(workload.fetch().await.is_ok(), "after {wrong:?}");
    }
}
