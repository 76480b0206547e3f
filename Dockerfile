# The endpoint (docs/serving.md) without PyTorch: docker build -t genrepro .
# Never built where it was written; the same packages were tried in a virtual environment.
FROM python:3.11-slim AS packages
RUN pip install --no-cache-dir uv==0.13.9
COPY requirements.txt .
# Versions are those of requirements.txt; these are the packages that the endpoint imports.
RUN uv pip install --target /packages --constraint requirements.txt \
    av fastapi fastapi-offline numpy onnxruntime python-multipart soundfile soxr threadpoolctl tqdm uvicorn

FROM python:3.11-slim
RUN useradd --no-create-home endpoint
COPY --from=packages /packages /packages
ENV PYTHONPATH=/packages PYTHONDONTWRITEBYTECODE=1
WORKDIR /endpoint
# What .dockerignore lets through: the code, the exported model, and whether its ONNX agrees.
COPY . .
USER endpoint
EXPOSE 8000
CMD ["python", "-m", "tools.serve", "--host", "0.0.0.0"]
