//! CustomResourceDefinitions: resources that clients declare.
