//! The one configuration struct of the server: flags and `LLM_CXR_*` environment variables, validated before a port is bound.
