//! OpenAPI of custom resources.

use serde_json::{Value, json};

use super::bed::Bed;

async fn serve(bed: &Bed) {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["n"], "properties": {
            "either": {"x-kubernetes-int-or-string": true},
            "whole": {"type": "object", "x-kubernetes-embedded-resource": true,
                      "x-kubernetes-preserve-unknown-fields": true},
            "n": {"type": "string", "nullable": true},
            "r": {"type": "integer"},
        }},
        "status": {"type": "object", "properties": {"r": {"type": "integer"}}},
    }});
    let more = json!({
        "selectableFields": [{"jsonPath": ".spec.n"}],
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.r", "statusReplicasPath": ".status.r",
        }},
    });
    bed.serve_widgets(schema, more).await;
}

#[tokio::test]
async fn schemas_say_what_extensions_imply() {
    let bed = Bed::start().await;
    serve(&bed).await;
    let document = bed.get("/openapi/v3/apis/example.com/v1").await.body;
    assert_eq!(document["info"]["title"], "Kubernetes CRD Swagger");
    let schemas = &document["components"]["schemas"];
    let widget = &schemas["com.example.v1.Widget"];
    let spec = &widget["properties"]["spec"]["properties"];
    assert_eq!(
        spec["either"]["anyOf"],
        json!([{"type": "integer"}, {"type": "string"}])
    );
    assert_eq!(spec["whole"]["required"], json!(["kind", "apiVersion"]));
    let meta = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(
        spec["whole"]["properties"]["metadata"]["allOf"],
        json!([{"$ref": meta}])
    );
    let selectable = json!([{"fieldPath": "spec.n"}]);
    assert_eq!(widget["x-kubernetes-selectable-fields"], selectable);
    let list = &schemas["com.example.v1.WidgetList"];
    assert_eq!(
        list["properties"]["items"]["items"],
        json!({"$ref": "#/components/schemas/com.example.v1.Widget"})
    );
    assert!(schemas["io.k8s.api.autoscaling.v1.ScaleSpec"].is_object());

    let older = bed.get("/openapi/v2").await.body;
    let spec = &older["definitions"]["com.example.v1.Widget"]["properties"]["spec"];
    assert_eq!(
        spec.get("required"),
        None,
        "what may be null is not required"
    );
    assert_eq!(spec["properties"]["n"].get("type"), None);
    assert_eq!(spec["properties"]["either"].get("anyOf"), None);
}

#[tokio::test]
async fn operations_have_names_and_typed_parameters() {
    let bed = Bed::start().await;
    serve(&bed).await;
    let document = bed.get("/openapi/v3/apis/example.com/v1").await.body;
    let paths = &document["paths"];
    let base = "/apis/example.com/v1/namespaces/{namespace}/widgets";
    let ids = [
        (base.to_owned(), "get", "listExampleComV1NamespacedWidget"),
        (
            base.to_owned(),
            "post",
            "createExampleComV1NamespacedWidget",
        ),
        (
            base.to_owned(),
            "delete",
            "deleteExampleComV1CollectionNamespacedWidget",
        ),
        (
            format!("{base}/{{name}}"),
            "get",
            "readExampleComV1NamespacedWidget",
        ),
        (
            format!("{base}/{{name}}"),
            "put",
            "replaceExampleComV1NamespacedWidget",
        ),
        (
            format!("{base}/{{name}}/status"),
            "patch",
            "patchExampleComV1NamespacedWidgetStatus",
        ),
        (
            "/apis/example.com/v1/widgets".to_owned(),
            "get",
            "listExampleComV1WidgetForAllNamespaces",
        ),
    ];
    for (path, method, id) in ids {
        let operation = &paths[&path][method];
        assert_eq!(operation["operationId"], id);
        assert_eq!(operation["tags"], json!(["exampleCom_v1"]));
    }
    let names = |item: &Value| -> Vec<String> {
        let parameters = item["parameters"].as_array();
        parameters
            .into_iter()
            .flatten()
            .filter_map(|one| one["name"].as_str().map(str::to_owned))
            .collect()
    };
    // What all operations of a path have stands beside them.
    assert_eq!(names(&paths[base]), ["namespace", "pretty"]);
    let list = &paths[base]["get"]["parameters"];
    let limit = list
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["name"] == "limit");
    assert_eq!(
        limit.expect("a limit")["schema"],
        json!({"type": "integer", "uniqueItems": true})
    );
    let scale = &paths[format!("{base}/{{name}}/scale")]["put"];
    assert_eq!(
        scale["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/io.k8s.api.autoscaling.v1.Scale"
    );
    let deleted = &paths[base]["delete"]["responses"]["200"]["content"]["application/yaml"];
    assert_eq!(
        deleted["schema"]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Status"
    );

    // Built-in resources take and give protobuf too.
    let leases = bed
        .get("/openapi/v3/apis/coordination.k8s.io/v1")
        .await
        .body;
    let path = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}";
    let read = &leases["paths"][path]["get"];
    assert_eq!(read["operationId"], "readCoordinationV1NamespacedLease");
    let forms = read["responses"]["200"]["content"]
        .as_object()
        .expect("forms");
    assert!(forms.contains_key("application/vnd.kubernetes.protobuf"));
    assert!(!leases.to_string().contains("x-go-type"));
}
